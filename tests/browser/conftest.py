"""Without a Chromium these tests are skipped."""

from __future__ import annotations

import pytest
from shop.chromium import MISSING, find_chromium


@pytest.fixture(autouse=True)
def chromium() -> str:
    """Skip where there is none."""
    path = find_chromium()
    if path is None:
        pytest.skip(MISSING)
    return path
