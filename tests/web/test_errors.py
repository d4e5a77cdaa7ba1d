"""Every error has one status and one sentence; a broken database and a broken program are no traceback."""

from __future__ import annotations

import inspect
import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from http import HTTPStatus
from pathlib import Path

import pytest
from sqlalchemy import event

from tests.web.conftest import PROBLEM, Site
from webapp import create_app, errors
from webapp.errors import AppError, DatabaseUnusable, SettingsInvalid
from webapp.services.wg import Tools
from webapp.web.error_handlers import STATUSES, TITLES, status_of

CLASSES = [item for _, item in inspect.getmembers(errors, inspect.isclass) if issubclass(item, AppError)]
UNUSABLE = "The database cannot be used right now. Nothing was lost. Try again in a minute."
BROKEN = "Something broke on our side. Nothing was lost. Try again."


def made(kind: type[AppError]) -> AppError:
    """Return an error of the class, whatever its arguments are."""
    if kind is errors.Throttled:
        return errors.Throttled(60)
    if kind is errors.NameTaken:
        return errors.NameTaken("name", "Taken: %(name)s", name="x")
    if kind in (errors.InvalidFields, errors.SettingsInvalid):
        return kind([])  # type: ignore[arg-type]
    return kind()


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_class_of_error_has_a_status_of_its_own_choice(kind: type[AppError]) -> None:
    status = status_of(made(kind))
    named = [listed for listed, _ in STATUSES if issubclass(kind, listed)]
    # Only what cannot happen in a request falls through to the last line.
    assert named[0] is not AppError or kind in (AppError, SettingsInvalid)
    assert status in TITLES
    assert 400 <= HTTPStatus(status) <= 599


def test_no_line_of_the_table_hides_behind_an_earlier_one() -> None:
    for place, (kind, _) in enumerate(STATUSES):
        assert not [earlier for earlier, _ in STATUSES[:place] if issubclass(kind, earlier)], kind


class TestUnexpected:
    """A programming error."""

    @pytest.fixture
    def broken(self, site: Site) -> Site:
        def view() -> str:
            raise RuntimeError("secret detail 4711")

        for endpoint in ("home.index", "api.openapi"):
            site.app.view_functions[endpoint] = view
        return site

    def test_it_is_a_500_page_without_the_reason(self, broken: Site, caplog: pytest.LogCaptureFixture) -> None:
        answer = broken.nobody().get("/")
        assert (answer.status_code, answer.mimetype) == (500, "text/html")
        assert BROKEN in answer.text
        assert "4711" not in answer.text
        assert "Traceback" not in answer.text
        # The one who runs the server finds it in the log, whole.
        (record,) = caplog.records
        assert record.getMessage() == "GET / failed"
        assert record.exc_info is not None
        assert "4711" in str(record.exc_info[1])

    def test_htmx_is_told_in_the_page(self, broken: Site) -> None:
        answer = broken.nobody().get("/", htmx=True)
        assert (answer.status_code, answer.headers["HX-Retarget"]) == (500, "#messages")
        assert answer.text == f'<p class="note is-blocked">{BROKEN}</p>'

    def test_a_script_gets_problem_json(self, broken: Site) -> None:
        answer = broken.script().get("/api/v1/openapi.json")
        assert (answer.status_code, answer.mimetype) == (500, PROBLEM)
        assert json.loads(answer.text) == {
            "type": "about:blank",
            "title": "Internal Server Error",
            "status": 500,
            "detail": BROKEN,
        }


class TestDatabase:
    """Locked, corrupt, gone: 503 with a sentence, as a page, a fragment or a problem."""

    def file_of(self, site: Site) -> Path:
        return site.services.settings.data_dir / "postern.db"

    def ask_all(self, site: Site, cookie: str, token: str) -> None:
        """Ask as a person, as htmx, as a script and as somebody who signs in."""
        browser = site.nobody()
        csrf = browser.csrf()
        signed_in = site.nobody().hold(cookie)
        for path in ("/profiles/", "/tokens", "/nothing-here"):
            answer = signed_in.get(path)
            assert answer.status_code == (404 if path == "/nothing-here" else 503), path
            if answer.status_code == 503:
                assert UNUSABLE in answer.text
                assert "<title>Back in a minute · Postern</title>" in answer.text
        answer = signed_in.get("/profiles/gates", htmx=True)
        assert (answer.status_code, answer.headers["HX-Retarget"]) == (503, "#messages")
        assert answer.text == f'<p class="note is-blocked">{UNUSABLE}</p>'
        answer = site.script(token).get("/api/v1/profiles")
        assert (answer.status_code, answer.mimetype) == (503, PROBLEM)
        answer = browser.post("/login", {"username": "alice", "password": "x", "csrf_token": csrf})
        assert answer.status_code == 503
        assert site.nobody().get("/readyz").status_code == 503
        assert site.nobody().get("/healthz").status_code == 200
        assert site.nobody().get("/login").status_code == 200
        assert site.nobody().get("/static/app.css").status_code == 200

    @pytest.fixture
    def keys(self, site: Site) -> tuple[str, str]:
        """A session's cookie and a token, made while the database was well."""
        return str(site.signed_in().cookie()), site.token()

    def test_garbage_in_place_of_the_file_is_503(self, site: Site, keys: tuple[str, str]) -> None:
        site.services.db.close()
        for path in self.file_of(site).parent.glob("postern.db*"):
            path.write_bytes(os.urandom(8192))
        self.ask_all(site, *keys)

    def test_a_file_that_is_gone_is_503_and_is_not_made_anew(self, site: Site, keys: tuple[str, str]) -> None:
        site.services.db.close()
        folder = self.file_of(site).parent
        moved = folder.with_name("elsewhere")
        folder.rename(moved)
        self.ask_all(site, *keys)
        moved.rename(folder)
        assert site.nobody().hold(keys[0]).get("/profiles/").status_code == 200

    def test_a_lock_that_stays_is_503_for_a_write_and_nothing_for_a_read(self, make_site: Callable[..., Site]) -> None:
        site = make_site(is_fresh=True)
        alice = site.signed_in()
        engine = site.services.db.engine
        engine.dispose()
        event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA busy_timeout = 100").close())
        alice.csrf()
        with closing(sqlite3.connect(self.file_of(site), isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert alice.get("/profiles/").status_code == 200
            answer = alice.post("/profiles/", {"name": "phone"})
            assert answer.status_code == 503
            assert UNUSABLE in answer.text
            answer = alice.post("/profiles/", {"name": "phone"}, htmx=True)
            assert (answer.status_code, answer.headers["HX-Retarget"]) == (503, "#messages")
            other.execute("ROLLBACK")
        assert "<bdi>phone" not in alice.get("/profiles/").text
        assert alice.post("/profiles/", {"name": "phone"}).status_code == 303


def test_nothing_starts_on_a_database_that_cannot_be_used(site: Site) -> None:
    site.services.db.close()
    for path in site.services.settings.data_dir.glob("postern.db*"):
        path.write_bytes(os.urandom(8192))
    with pytest.raises(DatabaseUnusable):
        create_app(site.services.settings, Tools())


def test_an_address_that_is_none_is_a_404_page_that_leads_on(site: Site) -> None:
    answer = site.nobody().get("/nothing")
    assert answer.status_code == 404
    assert "<h1>No gate here</h1>" in answer.text
    assert 'href="/profiles/"' in answer.text


@pytest.mark.parametrize("accept", ["", "*/*", "application/json", "text/plain", "image/avif,image/webp"])
def test_only_who_names_html_gets_a_page(site: Site, accept: str) -> None:
    answer = site.nobody(headers={"Accept": accept}).get("/nothing")
    assert (answer.status_code, answer.mimetype) == (404, PROBLEM)


@pytest.mark.parametrize(
    "path", ["/profiles/%00.conf", "/profiles/%ff.conf", "/profiles/%E2%80%AE.conf", "/" + "a" * 5000]
)
def test_an_odd_path_is_404(site: Site, path: str) -> None:
    assert site.signed_in().get(path).status_code == 404
    assert site.script().get(path).status_code == 404
