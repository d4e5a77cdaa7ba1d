"""For machines that watch: alive, ready, figures."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from sqlalchemy import text

from tests.web.conftest import PROBLEM, Site

METRICS_TOKEN = "0123456789abcdef-metrics"


def test_alive_and_ready_answer_nobody_under_any_name(site: Site) -> None:
    watcher = site.nobody(headers={"Accept": "*/*", "Host": "10-0-0-7.kube.internal"})
    for path in ("/healthz", "/readyz"):
        answer = watcher.get(path)
        assert (answer.status_code, answer.get_json()) == (200, {"status": "ok"})


def test_tables_of_another_version_are_not_ready_and_still_alive(site: Site) -> None:
    with site.services.db.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = 'ffff'"))
    watcher = site.nobody()
    assert watcher.get("/readyz").status_code == 503
    assert watcher.get("/healthz").status_code == 200


def test_without_a_token_in_the_settings_there_are_no_figures(site: Site) -> None:
    for browser in (site.nobody(), site.admin(), site.script()):
        assert browser.get("/metrics").status_code == 404


class TestMetrics:
    """Figures for those who hold the token, wherever they come from."""

    @pytest.fixture
    def watched(self, make_site: Callable[..., Site]) -> Site:
        return make_site(METRICS_TOKEN=METRICS_TOKEN, INTERFACE_MODE="manage")

    def test_the_right_token_reads_them(self, watched: Site) -> None:
        phone = watched.profile()
        watched.profile("tablet")
        agent = watched.agent()
        agent.look()
        agent.hear(phone.public_key, watched.clock.now)
        answer = watched.script(METRICS_TOKEN).get("/metrics")
        assert answer.status_code == 200
        assert dict(re.findall(r"^(postern_\w+) (\S+)$", answer.text, re.MULTILINE)) == {
            "postern_profiles": "2.0",
            "postern_profiles_connected": "1.0",
            "postern_agent_up": "1.0",
            "postern_problems": "0.0",
            "postern_server_revision": "1.0",
        }

    @pytest.mark.parametrize("token", ["", "wrong", METRICS_TOKEN[:-1], METRICS_TOKEN + "x", "é"])
    def test_any_other_is_401(self, watched: Site, token: str) -> None:
        answer = watched.nobody(headers={"Accept": "*/*", "Authorization": f"Bearer {token}"}).get("/metrics")
        assert (answer.status_code, answer.mimetype) == (401, PROBLEM)

    def test_neither_an_admin_nor_a_personal_token_reads_them(self, watched: Site) -> None:
        assert watched.admin(headers={"Accept": "text/html"}).get("/metrics").status_code != 200
        assert watched.script().get("/metrics").status_code == 401
