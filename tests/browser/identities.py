"""Identity sources for browsers: of the version that runs, on two systems."""

from __future__ import annotations

import re
import secrets
import subprocess
from functools import cache
from itertools import cycle
from typing import TYPE_CHECKING

from shop.chromium import find_chromium

if TYPE_CHECKING:
    from random import Random

    from scrapy_session_filter.session import Session

_SYSTEMS = cycle(("Windows NT 10.0; Win64; x64", "Macintosh; Intel Mac OS X 10_15_7"))


@cache
def version() -> str:
    """The major version of the Chromium that runs."""
    path = find_chromium()
    assert path is not None
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
    match = re.search(r"(\d+)\.", said)
    assert match is not None
    return match[1]


def two_systems(rng: Random) -> dict[str, str]:
    """One identity after the other."""
    return {
        "User-Agent": f"Mozilla/5.0 ({next(_SYSTEMS)}) AppleWebKit/537.36 (KHTML, like Gecko)"
        f" Chrome/{version()}.0.0.0 Safari/537.36",
        "Accept-Language": "en-US,en;q=0.9",
    }


def by_chance(session: Session) -> dict[str, str]:
    """Options of a session's contexts that are other ones each time they are asked for."""
    language = secrets.choice(("de", "fr", "it", "es", "pt", "nl", "pl", "cs", "da", "fi", "sv"))
    return {"locale": language, "timezone_id": "Europe/Berlin"}
