"""The command that shows how much each constant matters."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from benchmarks.sensitivity import CONSTANTS, PACKAGE, main, scaled
from scrapy_session_filter.policies.adaptive import budget

if TYPE_CHECKING:
    import pytest


def test_all_constants_exist() -> None:
    """Each is a number of the module under which it is listed."""
    for module, names in CONSTANTS.items():
        for name in names:
            assert getattr(import_module(f"{PACKAGE}.{module}"), name) > 0


def test_a_constant_is_changed_wherever_it_is_used_and_set_back() -> None:
    """Also in modules that import it by name."""
    choosing = import_module(f"{PACKAGE}.choosing")
    before = budget.CROWDING
    with scaled("budget", "CROWDING", 2.0):
        assert budget.CROWDING == choosing.CROWDING == 2 * before
    assert budget.CROWDING == choosing.CROWDING == before


def test_the_table_has_a_row_per_constant(capsys: pytest.CaptureFixture[str]) -> None:
    """With the change of the mean ratio when it is halved and doubled."""
    main(["--scenarios", "S0", "--pages", "150", "--only", "LOOK,WORTH"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("`")[1] for line in lines[2:]] == ["budget.WORTH", "working.LOOK"]
