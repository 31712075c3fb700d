"""The benchmark page: parts are made one at a time, and say how."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks import report

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A page of two parts that cost nothing to make; its folder."""

    def of(part: str) -> Callable[[argparse.Namespace, Path], Iterator[str]]:
        return lambda options, _: iter([f"## {part}\n\n", f"{options.worlds}\n"])

    monkeypatch.setitem(report.PARTS, "random", (of("random"), ("worlds",)))
    monkeypatch.setitem(report.PARTS, "scenarios", (of("scenarios"), ("seeds",)))
    report.main(["--into", str(tmp_path), "--parts", "random,scenarios", "--worlds", "0:5"])
    return tmp_path


def test_a_part_is_made_anew_and_the_others_stay(made: Path) -> None:
    """Each part stands once, in the page's order, as it was made last."""
    report.main(["--into", str(made), "--parts", "random", "--worlds", "7:9"])
    page = (made / "benchmarks.md").read_text(encoding="utf-8")
    assert page.count("## random") == page.count("## scenarios") == 1
    assert page.index("## scenarios") < page.index("## random")
    assert "7:9\n<!-- end of random -->" in page
    assert "0:5\n<!-- end of scenarios -->" in page


def test_each_part_tells_its_command(made: Path) -> None:
    """With the options that it heeds, and the commit."""
    page = (made / "benchmarks.md").read_text(encoding="utf-8")
    assert "`python -m benchmarks.report --parts random --worlds 0:5` at commit " in page
    assert "`python -m benchmarks.report --parts scenarios --seeds 8` at commit " in page


@pytest.mark.parametrize("option", ["parts", "layouts"])
def test_unknown_names_are_refused(option: str, tmp_path: Path) -> None:
    """The error names those that there are."""
    with pytest.raises(SystemExit, match=f"--{option}: no nonsense; there are: "):
        report.main(["--into", str(tmp_path), f"--{option}", "nonsense"])
