"""Header sets of Chromium browsers as they were seen in the wild, by the browserforge package.

What the package generates is coherent but for some headers, which are put right here: it permutes the
values of the four ``Sec-Fetch-*`` headers (1.2.4), and writes Accept-Language as no browser does.
"""

from __future__ import annotations

import random
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from scrapy_session_filter.browsers import browser_headers, recognise

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SYSTEMS = {"desktop": ("windows", "macos", "linux"), "mobile": ("android",)}
NAVIGATION = {
    "Sec-Fetch-Site": "none",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-User": "?1",
    "Sec-Fetch-Dest": "document",
}
"""What a browser sends for a page whose address was typed in (W3C, Fetch Metadata)."""
TRIES = 200
"""Sets drawn for one that is coherent; about one in ten is not."""

_KEPT = ("sec-ch-ua", "sec-ch-ua-mobile", "sec-ch-ua-platform", "upgrade-insecure-requests")


class BrowserforgeSource:
    """Headers of Chrome and Edge as browserforge generates them, offline, by their share.

    ``platform`` is ``"desktop"`` or ``"mobile"``; ``languages`` go into Accept-Language. Left out is
    what contradicts itself: client hints that name another browser, version or system than the
    User-Agent. Raises ImportError without the package; sessions with equal headers share one
    read-only mapping.
    """

    def __init__(
        self, platform: str = "desktop", languages: Sequence[str] = ("en-US", "en")
    ) -> None:
        from browserforge.headers import HeaderGenerator  # noqa: PLC0415 - of an extra

        self.languages = tuple(languages)
        self._mobile = platform == "mobile"
        self._generator = HeaderGenerator(
            browser=("chrome", "edge"), os=SYSTEMS[platform], device=platform
        )
        self._known: dict[tuple[tuple[str, str], ...], Mapping[str, str]] = {}

    def draw(self, rng: random.Random) -> Mapping[str, str]:
        """Return a header set; it follows from ``rng`` alone, as far as the package lets it.

        Raises `LookupError` where the package gives nothing coherent.
        """
        for _ in range(TRIES):
            headers = self._coherent(self._generate(rng))
            if headers is not None:
                return self._known.setdefault(tuple(headers.items()), MappingProxyType(headers))
        msg = f"browserforge gave nothing coherent in {TRIES} tries"
        raise LookupError(msg)

    def _generate(self, rng: random.Random) -> dict[str, Any]:
        """Generate a set; the package takes its randomness from the module `random`."""
        state = random.getstate()
        random.seed(rng.getrandbits(64))
        try:
            return dict(self._generator.generate())
        finally:
            random.setstate(state)

    def _coherent(self, generated: Mapping[str, str]) -> dict[str, str] | None:
        found = {name.lower(): value for name, value in generated.items()}
        browser = recognise(found.get("user-agent", ""))
        if browser is None or browser.engine != "chromium" or browser.mobile is not self._mobile:
            return None
        brands = found.get("sec-ch-ua", "")
        if (
            f'"{browser.brand}";v="{browser.brand_major}"' not in brands
            or f'"Chromium";v="{browser.major}"' not in brands
            or found.get("sec-ch-ua-platform") != f'"{browser.system}"'
            or found.get("sec-ch-ua-mobile") != ("?1" if browser.mobile else "?0")
        ):
            return None
        ours = browser_headers(found["user-agent"], browser, self.languages)
        return {
            **{name: found[name] for name in _KEPT if name in found},
            **{name: ours[name] for name in ("User-Agent", "Accept", "Accept-Language")},
            **NAVIGATION,
        }
