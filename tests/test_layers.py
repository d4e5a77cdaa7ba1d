"""Reads the imports of the program: they point one way, and each danger has one door."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "webapp"
FILES = {path.relative_to(PACKAGE).as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text(encoding="utf-8"), name) for name, path in FILES.items()}

OUTERMOST = 4
LAYERS = {"errors.py": 0, "domain": 1, "settings.py": 2, "models.py": 2, "services": 3}
"""What is not here (web, cli, agent, doctor, wiring, the package itself) stands outermost and may import all."""

MAY_START_PROCESSES = {"services/wg.py"}
MAY_IMPORT_ALEMBIC = {"services/migrator.py"}
MAY_IMPORT_MIGRATOR = {"cli.py"}
MAY_IMPORT_FLASK = ("web/", "__init__.py", "extensions.py")
PURE_NEVER_IMPORTS = {
    *("flask", "sqlalchemy", "subprocess", "os", "time", "random", "secrets", "socket", "pathlib", "logging"),
    *("threading", "tempfile", "shutil", "signal", "sqlite3", "uuid"),
}
STARTS_PROCESSES = ("system", "popen", "exec", "spawn", "posix_spawn", "fork")


def layer(name: str) -> int:
    return LAYERS.get(name, LAYERS.get(name.split("/", maxsplit=1)[0], OUTERMOST))


def imports(name: str) -> Iterator[str]:
    """Yield the dotted name of every module that the file imports, also inside functions."""
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def file_of(module: str) -> str | None:
    """Return the file of a module of ours, or None for another's (or a name inside a module)."""
    if module.split(".", maxsplit=1)[0] != "webapp":
        return None
    stem = "/".join(module.split(".")[1:])
    return next((name for name in (f"{stem}.py", f"{stem}/__init__.py".lstrip("/")) if name in FILES), None)


def packages(name: str) -> set[str]:
    return {module.split(".")[0] for module in imports(name)}


def attributes(name: str) -> Iterator[str]:
    """Yield every dotted attribute that the file reads from a plain name, as ``os.system``."""
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield f"{node.value.id}.{node.attr}"


@pytest.mark.parametrize("name", FILES)
def test_imports_point_inwards(name: str) -> None:
    outward = [
        target
        for module in imports(name)
        if (target := file_of(module)) is not None and layer(target) > layer(name) and target != "__init__.py"
    ]
    assert outward == []


def test_errors_import_nothing_of_ours() -> None:
    assert [module for module in imports("errors.py") if module.startswith("webapp")] == []


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("domain/")])
def test_the_domain_is_pure(name: str) -> None:
    assert packages(name) & PURE_NEVER_IMPORTS == set()
    clocks = {"datetime.now", "datetime.utcnow", "datetime.today", "date.today", "time.time"}
    assert set(attributes(name)) & clocks == set()
    assert not any(
        isinstance(node, ast.Name) and node.id in {"open", "print", "input"} for node in ast.walk(TREES[name])
    )


def test_one_module_starts_processes() -> None:
    def starts(name: str) -> bool:
        calls = (dotted.removeprefix("os.") for dotted in attributes(name) if dotted.startswith("os."))
        is_os = any(call.startswith(STARTS_PROCESSES) for call in calls)
        taken = {m.removeprefix("os.") for m in imports(name) if m.startswith("os.")}
        from_os = any(word.startswith(STARTS_PROCESSES) for word in taken)
        return is_os or from_os or bool(packages(name) & {"subprocess", "multiprocessing", "pty"})

    assert {name for name in FILES if starts(name)} == MAY_START_PROCESSES


def test_nothing_evaluates_text_or_unpickles() -> None:
    for name, tree in TREES.items():
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        assert names & {"eval", "exec", "__import__"} == set(), name
        assert packages(name) & {"pickle", "marshal", "shelve"} == set(), name


def test_only_the_migrator_imports_alembic_and_only_the_command_the_migrator() -> None:
    assert {name for name in FILES if "alembic" in packages(name)} == MAY_IMPORT_ALEMBIC
    importers = {name for name in FILES if "services/migrator.py" in map(file_of, imports(name))}
    assert importers == MAY_IMPORT_MIGRATOR


def test_flask_stays_in_the_web() -> None:
    flasks = {"flask", "flask_login", "flask_wtf", "flask_sqlalchemy", "htmx_flask", "werkzeug", "wtforms", "jinja2"}
    users = {name for name in FILES if packages(name) & flasks}
    assert {name for name in users if not name.startswith(MAY_IMPORT_FLASK)} == set()


def test_one_module_reads_what_htmx_sends() -> None:
    """The package that answers htmx and the ``HX-`` headers are render's; ``extensions`` only makes the object."""
    importers = {name for name in FILES if "htmx_flask" in packages(name)}
    assert importers <= {"web/render.py", "extensions.py"}
    texts = {
        name
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.upper().startswith("HX-")
    }
    # The headers tell caches that the answer depends on who asks (Vary); they read nothing.
    assert texts <= {"web/render.py", "web/headers.py"}


@pytest.mark.parametrize("name", FILES)
def test_a_module_opens_with_a_sentence(name: str) -> None:
    text = ast.get_docstring(TREES[name])
    assert text is not None
    assert text.split("\n\n")[0].rstrip().endswith((".", "?"))


def test_nobody_asks_the_time_behind_the_clocks_back() -> None:
    askers = {name for name in FILES if set(attributes(name)) & {"datetime.now", "datetime.utcnow", "time.time"}}
    assert askers <= {"wiring.py"}


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("web/")])
def test_the_web_asks_services_and_never_the_tables(name: str) -> None:
    """The type of a session, to hand on, and the errors of the database, to answer, are all it may know."""
    known = ("sqlalchemy.orm", "sqlalchemy.orm.Session", "sqlalchemy.exc")
    used = {module for module in imports(name) if module.startswith("sqlalchemy")}
    assert {module for module in used if module not in known and not module.startswith("sqlalchemy.exc.")} == set()
    assert "webapp.models" not in set(imports(name))


def test_these_tests_see_the_files() -> None:
    assert {"services/wg.py", "domain/keys.py", "errors.py", "cli.py"} <= FILES.keys()
    assert [layer(name) for name in ("errors.py", "domain/keys.py", "models.py", "services/wg.py", "cli.py")] == [
        0, 1, 2, 3, 4,
    ]  # fmt: skip
