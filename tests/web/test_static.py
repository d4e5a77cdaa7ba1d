"""What the browser is given as files: hashes, sizes, contrast, and templates without inline code."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STATIC = ROOT / "static"
TEMPLATES = sorted((ROOT / "templates").rglob("*.html"))

HTMX_SHA256 = "a0abb04f2f45a1f89d1d4844023245537e5e6014c87b144553e0607b4cc32130"
"""Of ``dist/htmx.min.js`` in the npm package htmx.org 4.0.1."""

TEXT, PART = 4.5, 3.0  # WCAG 2.2, 1.4.3 and 1.4.11

PAIRS = [
    ("ink", "wall", TEXT),
    ("ink", "face", TEXT),
    ("ink-2", "wall", TEXT),
    ("ink-2", "face", TEXT),
    ("wall", "ink", TEXT),
    ("open", "wall", TEXT),
    ("open", "face", TEXT),
    ("fetch", "wall", TEXT),
    ("fetch", "face", TEXT),
    ("blocked", "wall", TEXT),
    ("blocked", "face", TEXT),
    ("ink", "open-2", TEXT),
    ("ink", "fetch-2", TEXT),
    ("ink", "blocked-2", TEXT),
    ("open", "open-2", TEXT),
    ("fetch", "fetch-2", TEXT),
    ("blocked", "blocked-2", TEXT),
    ("edge", "wall", PART),
    ("edge", "face", PART),
    ("focus", "wall", PART),
    ("focus", "face", PART),
]


def _colours() -> dict[str, tuple[str, str]]:
    css = (STATIC / "app.css").read_text(encoding="utf-8")
    return {
        name: (light, dark) for name, light, dark in re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", css)
    }


def _luminance(colour: str) -> float:
    """Return the relative luminance as WCAG 2.2 defines it."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _contrast(one: str, other: str) -> float:
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(("front", "back", "least"), PAIRS, ids=str)
def test_contrast_is_enough_in_both_themes(front: str, back: str, least: float, theme: int) -> None:
    colours = _colours()
    assert _contrast(colours[front][theme], colours[back][theme]) >= least


def test_vendored_htmx_is_the_published_file() -> None:
    folder = STATIC / "vendor" / "htmx-4.0.1"
    assert hashlib.sha256((folder / "htmx.min.js").read_bytes()).hexdigest() == HTMX_SHA256
    assert (folder / "LICENSE").read_text(encoding="utf-8").startswith("Zero-Clause BSD")


def test_stylesheet_stays_small() -> None:
    assert (STATIC / "app.css").stat().st_size <= 16_000


def test_stylesheet_and_script_fetch_nothing_from_elsewhere() -> None:
    for name in ("app.css", "app.js"):
        text = (STATIC / name).read_text(encoding="utf-8")
        assert not re.search(r"https?://|url\(|@import|data:|eval\(|innerHTML", text), name


def test_htmx_asks_its_own_origin_only_and_writes_no_style() -> None:
    base = (ROOT / "templates" / "base.html").read_text(encoding="utf-8")
    found = re.search(r"<meta name=\"htmx-config\" content='([^']+)'>", base)
    assert found
    assert json.loads(found[1]) == {
        "mode": "same-origin",
        "includeIndicatorCSS": False,  # a style sheet of htmx's own
        "history": False,  # no address is pushed, so there is none to restore
        "defaultTimeout": 20_000,
        "defaultSettleDelay": 0,  # settling copies style attributes, which the policy forbids
    }


FORBIDDEN = {
    "inline script": r"<script(?![^>]*\ssrc=)",
    "inline style": r"<style|\sstyle\s*=",
    "event handler": r"\son[a-z]+\s*=|hx-on",
    "data: URL": r"[\"'(]\s*data:",
    "javascript: URL": r"javascript:|\bjs:",
    "expression that htmx would evaluate": r"hx-trigger=\"[^\"]*\[|hx-vars",
    "escaping switched off": r"\|\s*safe\b|autoescape\s+false|\bMarkup\b",
    "address not made by url_for": r"(?:href|src|action|hx-(?:get|post|put|patch|delete))=\"/",
}


@pytest.mark.parametrize("what", FORBIDDEN)
@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: str(path.relative_to(ROOT / "templates")))
def test_templates_hold_no_inline_code(path: Path, what: str) -> None:
    assert re.search(FORBIDDEN[what], path.read_text(encoding="utf-8"), re.IGNORECASE) is None


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: str(path.relative_to(ROOT / "templates")))
def test_every_post_form_carries_the_csrf_field(path: Path) -> None:
    forms = re.findall(r"<form\b.*?</form>", path.read_text(encoding="utf-8"), re.DOTALL)
    assert all("p.csrf()" in form and "action=" in form for form in forms if 'method="post"' in form)


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: str(path.relative_to(ROOT / "templates")))
def test_an_element_that_asks_by_htmx_names_its_target_and_swap(path: Path) -> None:
    """htmx 4 inherits no attribute, so each asking element says both."""
    text = re.sub(r"\{[{%#].*?[}%#]\}", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    asking = [tag for tag in re.findall(r"<\w[^>]*>", text) if re.search(r"\shx-(?:get|post)=", tag)]
    assert all("hx-target=" in tag and "hx-swap=" in tag for tag in asking)


def test_there_are_templates_to_look_at() -> None:
    assert len(TEMPLATES) >= 15
