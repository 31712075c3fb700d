"""What is shipped: names, metadata, files, and what importing it drags in."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from configparser import ConfigParser
from importlib import metadata
from pathlib import Path
from zipfile import ZipFile

import pytest
import scrapy.commands

import scrapy_session_filter
from scrapy_session_filter.commands import SessionsCommand
from scrapy_session_filter.settings import FIELDS

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "scrapy_session_filter"
SOURCES = sorted(PACKAGE.rglob("*.py"))
NAME = "scrapy-session-filter"

CORE = (
    *("exceptions", "verdict", "session", "sampling", "roster", "pool", "snapshot", "policies"),
    *("verdicts", "stores", "stores.memory", "stores.sqlite", "identities", "proxies"),
)


def run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run Python with arguments, in a folder."""
    return subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built of a copy of what is shipped."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        target = source / name
        target.parent.mkdir(exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
    for path in (*SOURCES, PACKAGE / "py.typed"):
        target = source / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    pip = ("-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(source))
    built = run(*pip, cwd=folder)
    assert built.returncode == 0, built.stderr
    return next(folder.glob("*.whl"))


def test_version() -> None:
    """The installed version is `__version__`, and the change log begins with it."""
    version = scrapy_session_filter.__version__
    assert metadata.version(NAME) == version
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = [line for line in changes.splitlines() if line.startswith("## ")]
    assert headings[0].removeprefix("## [").startswith(f"{version}]")


def test_wheel_files(wheel: Path) -> None:
    """The wheel holds every module, the marker of type hints and the license, and no tests."""
    with ZipFile(wheel) as archive:
        names = set(archive.namelist())
    expected = {str(path.relative_to(ROOT)) for path in SOURCES}
    assert expected <= names
    assert "scrapy_session_filter/py.typed" in names
    assert any(name.endswith("LICENSE") for name in names)
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"scrapy_session_filter"}


def test_wheel_metadata(wheel: Path) -> None:
    """The metadata says what it needs, shows the README, and names the license."""
    with ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith("METADATA"))
        text = archive.read(name).decode()
    head, _, body = text.partition("\n\n")
    for line in (
        f"Name: {NAME}",
        f"Version: {scrapy_session_filter.__version__}",
        "Requires-Python: >=3.10",
        "Requires-Dist: scrapy>=2.14",
        "Requires-Dist: fake-useragent>=2.2",
        "Description-Content-Type: text/markdown",
        "License-Expression: BSD-3-Clause",
    ):
        assert line in head.replace("License: BSD", "License-Expression: BSD").splitlines()
    assert body.strip() == (ROOT / "README.md").read_text(encoding="utf-8").strip()


def test_supported_pythons() -> None:
    """The classifiers name the versions that the README and tox name."""
    config = ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    prefix = "Programming Language :: Python :: 3."
    lines = config["metadata"]["classifiers"].splitlines()
    minors = [int(line.removeprefix(prefix)) for line in lines if line.startswith(prefix)]
    assert minors == list(range(minors[0], minors[-1] + 1))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"Python 3.{minors[0]} to 3.{minors[-1]}, Scrapy 2.14 or newer" in readme
    tox = (ROOT / "tox.ini").read_text(encoding="utf-8")
    assert f"py3{{{','.join(map(str, minors))}}}" in tox


def test_command_in_a_new_project(tmp_path: Path) -> None:
    """The entry point adds ``sessions`` to the commands of a real project."""
    (entry,) = metadata.entry_points(group="scrapy.commands", name="sessions")
    assert entry.load() is SessionsCommand
    assert issubclass(SessionsCommand, scrapy.commands.ScrapyCommand)
    made = run("-m", "scrapy", "startproject", "fresh", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    project = tmp_path / "fresh"
    help_ = run("-m", "scrapy", cwd=project)
    assert SessionsCommand().short_desc() in help_.stdout
    listed = run("-m", "scrapy", "sessions", "list", cwd=project)
    assert listed.returncode == 0, listed.stderr
    assert listed.stdout.split() == ["site", "sessions", "working", "resting", "unproven"]
    wrong = run("-m", "scrapy", "sessions", "show", "nowhere.example", cwd=project)
    assert wrong.returncode == 1
    assert "nowhere.example" in wrong.stderr


def test_public_names() -> None:
    """Every public name resolves, is listed by `dir`, and has a docstring; others are refused."""
    for name in scrapy_session_filter.__all__:
        assert getattr(scrapy_session_filter, name).__doc__, name
    assert set(scrapy_session_filter.__all__) <= set(dir(scrapy_session_filter))
    assert sorted(scrapy_session_filter.__all__) == scrapy_session_filter.__all__
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        scrapy_session_filter.nonsense  # noqa: B018 - asking for it is the test


@pytest.mark.parametrize("module", ["", *CORE])
def test_core_imports_neither_scrapy_nor_twisted(module: str, tmp_path: Path) -> None:
    """The package and its core are imported without Scrapy, Twisted or an optional driver."""
    name = f"scrapy_session_filter.{module}".rstrip(".")
    code = f"import sys, {name}; print(*sorted({{m.partition('.')[0] for m in sys.modules}}))"
    result = run("-c", code, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    imported = result.stdout.split()
    assert "scrapy_session_filter" in imported
    assert not {"scrapy", "twisted", "redis", "playwright"} & set(imported)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_stored_is_executed(path: Path) -> None:
    """No module unpickles, evaluates or executes anything."""
    forbidden = {"pickle", "marshal", "shelve", "dill", "cloudpickle"}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            assert not forbidden & {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert (node.module or "").partition(".")[0] not in forbidden
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("eval", "exec", "compile", "__import__")


def test_linters_know_all_settings() -> None:
    """scrapy-lint is told of every setting there is, and of none that is not."""
    known = re.findall(r'"(SESSION_FILTER_\w+)"', (ROOT / "pyproject.toml").read_text())
    assert sorted(known) == sorted(info.name for info in FIELDS)
