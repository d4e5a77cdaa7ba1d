"""The API: its shapes, its refusals, its limits, and its own description held against routes and answers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
from werkzeug.test import TestResponse

from tests.web.conftest import HTML, PROBLEM, Browser, Site
from webapp.domain.states import State
from webapp.models import VpnProfile

PROFILES = "/api/v1/profiles"


@pytest.fixture
def script(site: Site) -> Browser:
    """curl with a token of alice's that may do everything."""
    return site.script()


def problem_of(answer: TestResponse, status: int) -> dict[str, Any]:
    """Return the problem, after a look at what every problem has."""
    assert (answer.status_code, answer.mimetype) == (status, PROBLEM), answer.text
    problem: dict[str, Any] = json.loads(answer.text)
    assert problem["type"] == "about:blank"
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]
    return problem


def errors_of(answer: TestResponse) -> dict[str, str]:
    return {item["field"]: item["detail"] for item in problem_of(answer, 422)["errors"]}


class TestShapes:
    """What a good answer is."""

    def test_a_new_profile_is_201_with_its_address(self, site: Site, script: Browser) -> None:
        answer = script.open(PROFILES, "POST", json={"name": "phone"})
        assert (answer.status_code, answer.location) == (201, f"{PROFILES}/1")
        body = answer.get_json()
        key = body.pop("public_key")
        assert re.fullmatch(r"[A-Za-z0-9+/]{43}=", key)
        assert body == {
            "id": 1,
            "name": "phone",
            "file_name": "phone.conf",
            "ipv4_address": "10.8.0.2",
            "ipv6_address": None,
            "enabled": True,
            "state": "ready",
            "pending_reason": None,
            "outdated": False,
            "created_at": "2026-03-04T05:06:07Z",
            "expires_at": None,
            "latest_handshake": None,
            "rx_bytes": 0,
            "tx_bytes": 0,
            "notes": "",
        }
        assert script.get(answer.location).get_json() == {**body, "public_key": key}

    def test_a_server_with_ipv6_gives_both_addresses(self, make_site: Callable[..., Site]) -> None:
        script = make_site(WG_NETWORK6="fd00:8::/64").script()
        body = script.open(PROFILES, "POST", json={"name": "phone"}).get_json()
        assert (body["ipv4_address"], body["ipv6_address"]) == ("10.8.0.2", "fd00:8::2")

    def test_a_pending_profile_says_why(self, managed: Site) -> None:
        managed.profile()
        body = managed.script().get(f"{PROFILES}/1").get_json()
        reason = "The part of the server that lets devices in is not running."
        assert (body["state"], body["pending_reason"]) == ("pending", reason)

    def test_no_answer_holds_a_private_key(self, site: Site, script: Browser) -> None:
        site.profile()
        file = script.get("/profiles/phone.conf").text
        secrets = re.findall(r"(?:PrivateKey|PresharedKey) = (\S+)", file)
        assert len(secrets) == 2
        for path in (PROFILES, f"{PROFILES}/1"):
            assert not [secret for secret in secrets if secret in script.get(path).text]

    def test_a_list_is_paged_by_absolute_links_oldest_first(self, site: Site, script: Browser) -> None:
        made = [site.profile(f"device {number}").name for number in range(5)]
        seen, url = [], f"{PROFILES}?limit=2"
        pages = 0
        while url:
            body = script.get(url.removeprefix("http://127.0.0.1:8000")).get_json()
            assert set(body) == {"items", "next"}
            seen += [item["name"] for item in body["items"]]
            url = body["next"]
            assert url is None or url.startswith(f"http://127.0.0.1:8000{PROFILES}?")
            pages += 1
        assert (seen, pages) == (made, 3)

    def test_fifty_are_listed_unless_asked_otherwise(self, site: Site, script: Browser) -> None:
        for number in range(51):
            site.profile(f"device {number}")
        assert len(script.get(PROFILES).get_json()["items"]) == 50
        whole = script.get(f"{PROFILES}?limit=500").get_json()
        assert (len(whole["items"]), whole["next"]) == (51, None)

    def test_a_change_touches_what_is_given(self, site: Site, script: Browser) -> None:
        before = site.profile()
        body = script.open(f"{PROFILES}/1", "PATCH", json={"enabled": False, "notes": "kitchen\ntable"}).get_json()
        assert (body["enabled"], body["state"], body["notes"]) == (False, "off", "kitchen\ntable")
        assert (body["name"], body["public_key"]) == (before.name, before.public_key)
        body = script.open(f"{PROFILES}/1", "PATCH", json={"name": "tablet", "enabled": True}).get_json()
        assert (body["name"], body["file_name"], body["state"]) == ("tablet", "tablet.conf", "ready")
        assert script.open(f"{PROFILES}/1", "PATCH", json={}).get_json() == body

    @pytest.mark.parametrize(
        ("given", "kept", "state"),
        [
            ("2026-03-04T05:06:07+00:00", "2026-03-04T05:06:07Z", State.EXPIRED),
            ("2027-01-31T12:00:00Z", "2027-01-31T12:00:00Z", State.READY),
            ("2027-01-31T12:00:00+02:00", "2027-01-31T10:00:00Z", State.READY),
            (None, None, State.READY),
        ],
    )
    def test_an_end_is_kept_in_utc(
        self, site: Site, script: Browser, given: str | None, kept: str | None, state: State
    ) -> None:
        site.profile()
        body = script.open(f"{PROFILES}/1", "PATCH", json={"expires_at": given}).get_json()
        assert (body["expires_at"], body["state"]) == (kept, state)

    def test_a_deleted_one_is_204_and_then_404(self, site: Site, script: Browser) -> None:
        site.profile()
        answer = script.open(f"{PROFILES}/1", "DELETE")
        assert (answer.status_code, answer.data) == (204, b"")
        for method in ("GET", "PATCH", "DELETE"):
            problem_of(script.open(f"{PROFILES}/1", method, json={}), 404)


class TestRefusals:
    """What a bad question gets, and that nothing was changed."""

    @pytest.mark.parametrize(
        "body",
        [
            "",
            "{",
            "nonsense",
            "\x00",
            '{"name": "a"} x',
            "[]",
            '"phone"',
            "null",
            "7",
            '{"name":' + "9" * 5000 + "}",
            "[" * 60_000,
            '{"a":' * 10_000,
        ],
    )
    def test_what_is_no_json_object_is_400(self, site: Site, script: Browser, body: str) -> None:
        for path, method in ((PROFILES, "POST"), (f"{PROFILES}/1", "PATCH")):
            problem_of(script.open(path, method, data=body.encode(), content_type="application/json"), 400)
        assert site.count(VpnProfile) == 0

    def test_bytes_that_are_no_text_are_400(self, script: Browser) -> None:
        problem_of(script.open(PROFILES, "POST", data=b'{"name": "\xff\xfe"}', content_type="application/json"), 400)

    @pytest.mark.parametrize("method", ["POST", "PATCH"])
    def test_a_huge_body_is_413(self, site: Site, script: Browser, method: str) -> None:
        site.profile("old")
        path = PROFILES if method == "POST" else f"{PROFILES}/1"
        body = json.dumps({"name": "x" * 70_000}).encode()
        problem = problem_of(script.open(path, method, data=body, content_type="application/json"), 413)
        assert problem["detail"] == "This is too much at once. Nothing was stored."
        assert site.count(VpnProfile) == 1

    def test_the_content_type_need_not_be_said(self, script: Browser) -> None:
        answer = script.open(
            PROFILES, "POST", data=b'{"name": "phone"}', content_type="application/x-www-form-urlencoded"
        )
        assert answer.status_code == 201

    @pytest.mark.parametrize(
        ("body", "errors"),
        [
            ({}, {"name": "Please type a name."}),
            ({"name": ""}, {"name": "Please type a name."}),
            ({"name": 7}, {"name": "This field has the wrong type."}),
            ({"name": None}, {"name": "This field has the wrong type."}),
            ({"name": ["phone"]}, {"name": "This field has the wrong type."}),
            ({"name": "phone", "id": 7}, {"id": "This field cannot be set."}),
            (
                {"name": "phone", "user_id": 2, "private_key": "x", "ipv4_address": "10.8.0.9"},
                dict.fromkeys(("user_id", "private_key", "ipv4_address"), "This field cannot be set."),
            ),
            ({"name": "a\x00b"}, {"name": "This name holds a character that cannot be shown."}),
            ({"name": "\ud800"}, {"name": "This name holds a character that cannot be shown."}),
        ],
    )
    def test_a_bad_field_of_a_new_one_is_422_and_all_are_named(
        self, site: Site, script: Browser, body: dict[str, Any], errors: dict[str, str]
    ) -> None:
        assert errors_of(script.open(PROFILES, "POST", json=body)) == errors
        assert site.count(VpnProfile) == 0

    @pytest.mark.parametrize(
        ("body", "errors"),
        [
            ({"enabled": 1, "notes": None}, dict.fromkeys(("enabled", "notes"), "This field has the wrong type.")),
            ({"public_key": "x"}, {"public_key": "This field cannot be set."}),
            ({"notes": "x" * 1001}, {"notes": "Use 1000 characters or fewer."}),
            ({"notes": "a\x00b"}, {"notes": "This text holds a character that cannot be shown."}),
            ({"notes": "\ud800"}, {"notes": "This text holds a character that cannot be shown."}),
            ({"notes": "a\x1b[31m"}, {"notes": "This text holds a character that cannot be shown."}),
            *(
                (
                    {"expires_at": text},
                    {"expires_at": "Give a moment with its time zone, such as 2027-01-31T12:00:00Z."},
                )
                for text in (
                    "",
                    "soon",
                    "2027-01-31",
                    "2027-01-31T12:00:00",
                    "0001-01-01T00:00:00+14:00",
                    "2027-13-01T00:00:00Z",
                )
            ),
        ],
    )
    def test_a_bad_field_of_a_change_is_422_and_changes_nothing(
        self, site: Site, script: Browser, body: dict[str, Any], errors: dict[str, str]
    ) -> None:
        site.profile()
        before = script.get(f"{PROFILES}/1").get_json()
        assert errors_of(script.open(f"{PROFILES}/1", "PATCH", json={"name": "other", **body})) == errors
        assert script.get(f"{PROFILES}/1").get_json() == before

    def test_a_taken_name_is_409_at_the_field(self, site: Site, script: Browser) -> None:
        site.profile("phone")
        site.profile("tablet")
        sentence = "You already have a “PHONE”. Try “PHONE 2”."
        for path, method in ((PROFILES, "POST"), (f"{PROFILES}/2", "PATCH")):
            problem = problem_of(script.open(path, method, json={"name": "PHONE"}), 409)
            assert problem["errors"] == [{"field": "name", "detail": sentence}]

    def test_a_full_pool_is_409(self, make_site: Callable[..., Site]) -> None:
        script = make_site(WG_NETWORK="10.8.0.0/30").script()
        script.open(PROFILES, "POST", json={"name": "one"})
        problem = problem_of(script.open(PROFILES, "POST", json={"name": "two"}), 409)
        assert problem["detail"] == "No address is free. Tell the person who runs this server."
        assert len(script.get(PROFILES).get_json()["items"]) == 1

    @pytest.mark.parametrize("limit", ["0", "501", "-1", "x", "1.0", "", "²", "9" * 40, "1e2"])
    def test_a_bad_limit_is_422(self, script: Browser, limit: str) -> None:
        errors = errors_of(script.get(PROFILES, query_string={"limit": limit}))
        assert errors == {"limit": "Give a whole number from 1 to 500."}

    @pytest.mark.parametrize("after", ["-1", "x", "9" * 19, "9" * 40])
    def test_a_bad_place_to_go_on_from_is_422(self, script: Browser, after: str) -> None:
        assert list(errors_of(script.get(PROFILES, query_string={"after": after}))) == ["after"]

    @pytest.mark.parametrize("number", ["0", "2", "9" * 19, "9" * 40, "-1", "x", "1.0"])
    def test_an_id_that_is_none_is_404(self, site: Site, script: Browser, number: str) -> None:
        site.profile()
        for method in ("GET", "PATCH", "DELETE"):
            problem_of(script.open(f"{PROFILES}/{number}", method, json={}), 404)

    def test_an_unknown_address_is_404_and_a_wrong_method_405(self, script: Browser) -> None:
        problem_of(script.get("/api/v1/nothing"), 404)
        answer = script.open(PROFILES, "DELETE")
        problem_of(answer, 405)
        assert set(re.split(r",\s*", answer.headers["Allow"])) == {"GET", "HEAD", "OPTIONS", "POST"}

    def test_a_stranger_is_told_what_a_missing_one_is_told(self, site: Site) -> None:
        site.profile()
        stranger = site.script(site.token("mallory"))
        for method in ("GET", "PATCH", "DELETE"):
            foreign, missing = (
                stranger.open(f"{PROFILES}/{number}", method, json={"name": "mine"} if method == "PATCH" else None)
                for number in (1, 2)
            )
            assert (foreign.status_code, foreign.data) == (404, missing.data)
        assert stranger.get(PROFILES).get_json() == {"items": [], "next": None}
        assert site.count(VpnProfile) == 1


class TestWhoMay:
    """Tokens only, each for what it is for."""

    @pytest.mark.parametrize(
        "header", ["", "Bearer", "Bearer ", "Bearer wrong", "Basic YTpi", "bearer x y", "Bearer \xe9"]
    )
    def test_without_a_good_token_it_is_401_even_for_a_browser(self, site: Site, header: str) -> None:
        for accept in ("*/*", HTML):
            answer = site.nobody(headers={"Accept": accept, "Authorization": header}).get(PROFILES)
            assert problem_of(answer, 401)["detail"] == "Please sign in first."
            assert answer.headers["WWW-Authenticate"] == 'Bearer realm="Postern"'

    def test_a_session_does_not_open_it(self, site: Site, alice: Browser) -> None:
        problem_of(alice.get(PROFILES), 401)
        answer = alice.open(PROFILES, "POST", json={"name": "phone"}, headers={"X-CSRFToken": alice.csrf()})
        problem_of(answer, 401)
        assert site.count(VpnProfile) == 0

    def test_the_scheme_may_be_written_in_any_case(self, site: Site) -> None:
        token = site.token()
        assert site.nobody(headers={"Authorization": f"bEARER  {token} "}).get(PROFILES).status_code == 200

    @pytest.mark.parametrize(("scope", "may_change"), [("read", False), ("manage", True), ("all", True)])
    def test_a_scope_says_what_a_token_may(self, site: Site, scope: str, may_change: bool) -> None:
        site.profile()
        script = site.script(site.token(scope=scope))
        for path in (PROFILES, f"{PROFILES}/1", "/profiles/phone.conf", "/profiles/1/qr.svg"):
            assert script.get(path).status_code == 200
        changes = [
            script.open(PROFILES, "POST", json={"name": "tablet"}),
            script.open(f"{PROFILES}/1", "PATCH", json={"name": "laptop"}),
            script.open(f"{PROFILES}/1", "DELETE"),
        ]
        assert [answer.status_code for answer in changes] == ([201, 200, 204] if may_change else [403] * 3)
        if not may_change:
            assert problem_of(changes[0], 403)["detail"] == "This token may not do this."
            assert [item["name"] for item in script.get(PROFILES).get_json()["items"]] == ["phone"]

    def test_a_token_needs_no_csrf_token_and_no_origin_stops_it(self, script: Browser) -> None:
        answer = script.open(PROFILES, "POST", json={"name": "phone"}, headers={"Origin": "https://other.example"})
        assert answer.status_code == 201
        assert "Access-Control-Allow-Origin" not in answer.headers


class TestDescription:
    """openapi.json says what is true."""

    @pytest.fixture
    def described(self, site: Site) -> dict[str, Any]:
        answer = site.nobody(headers={"Accept": "*/*"}).get("/api/v1/openapi.json")
        assert answer.status_code == 200
        body: dict[str, Any] = answer.get_json()
        return body

    def test_it_lists_exactly_the_routes_that_there_are(self, site: Site, described: dict[str, Any]) -> None:
        routes = {
            (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method.lower())
            for rule in site.app.url_map.iter_rules()
            if rule.endpoint.startswith("api.")
            for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        }
        told = {
            (path, method)
            for path, operations in described["paths"].items()
            for method in operations
            if method != "parameters"
        }
        assert told == routes

    def test_its_schemas_are_schemas_and_its_names_are_unique(self, described: dict[str, Any]) -> None:
        for schema in described["components"]["schemas"].values():
            jsonschema.Draft202012Validator.check_schema(schema)
        names = [
            operation["operationId"]
            for operations in described["paths"].values()
            for method, operation in operations.items()
            if method != "parameters"
        ]
        assert len(names) == len(set(names))

    def test_its_states_are_the_states(self, described: dict[str, Any]) -> None:
        profile = described["components"]["schemas"]["Profile"]
        assert set(profile["properties"]["state"]["enum"]) == set(State)

    def test_real_answers_are_what_it_says(self, managed: Site) -> None:
        described = managed.nobody().get("/api/v1/openapi.json").get_json()
        script = managed.script()
        phone = managed.profile("phone")
        agent = managed.agent()
        agent.look()
        agent.hear(phone.public_key, managed.clock.now, rx=5, tx=7)
        one = "/api/v1/profiles/{profile_id}"
        asked = [
            (PROFILES, "get", script.get(PROFILES)),
            (PROFILES, "get", script.get(f"{PROFILES}?limit=x")),
            (PROFILES, "get", managed.script("wrong").get(PROFILES)),
            (PROFILES, "post", script.open(PROFILES, "POST", json={"name": "tablet"})),
            (PROFILES, "post", script.open(PROFILES, "POST", json={"name": "tablet"})),
            (PROFILES, "post", script.open(PROFILES, "POST", json={"nom": "tablet"})),
            (PROFILES, "post", script.open(PROFILES, "POST", data=b"{")),
            (PROFILES, "post", script.open(PROFILES, "POST", data=b"x" * 70_000)),
            (PROFILES, "post", managed.script(managed.token(scope="read")).open(PROFILES, "POST", json={})),
            (PROFILES, "get", script.get(f"{PROFILES}?limit=1")),
            (one, "get", script.get(f"{PROFILES}/1")),
            (one, "get", script.get(f"{PROFILES}/99")),
            (one, "patch", script.open(f"{PROFILES}/1", "PATCH", json={"expires_at": "2027-01-31T12:00:00Z"})),
            (one, "patch", script.open(f"{PROFILES}/1", "PATCH", json={"name": "tablet"})),
            (one, "delete", script.open(f"{PROFILES}/2", "DELETE")),
            ("/api/v1/openapi.json", "get", script.get("/api/v1/openapi.json")),
        ]
        seen = set()
        for path, method, answer in asked:
            told = described["paths"][path][method]["responses"]
            assert str(answer.status_code) in told, (path, method, answer.status_code)
            seen.add(answer.status_code)
            content = told[str(answer.status_code)].get("content")
            if content is None:
                assert answer.data == b""
                continue
            assert answer.mimetype in content
            schema = {**content[answer.mimetype]["schema"], "components": described["components"]}
            check = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())
            check.validate(json.loads(answer.text))
        assert seen == {200, 201, 204, 400, 401, 403, 404, 409, 413, 422}

    def test_it_names_the_address_that_people_type(self, make_site: Callable[..., Site]) -> None:
        site = make_site(PUBLIC_URL="https://vpn.example.net/gate")
        body = site.nobody(base_url="https://vpn.example.net").get("/gate/api/v1/openapi.json").get_json()
        assert body["servers"] == [{"url": "https://vpn.example.net/gate"}]
