"""What browsers send beside their User-Agent, so that no header contradicts another."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class Browser(NamedTuple):
    """What a user agent says of its browser, as far as other headers depend on it."""

    engine: str  #: "chromium", "firefox" or "safari"
    major: int
    system: str = ""
    brand: str = "Google Chrome"
    brand_major: int = 0
    mobile: bool = False


_CHROMIUM = re.compile(
    r"Mozilla/5\.0 \((?P<os>[^)]+)\) AppleWebKit/537\.36 \(KHTML, like Gecko\) "
    r"Chrome/(?P<major>\d+)[\d.]* (?P<mobile>Mobile )?Safari/537\.36"
    r"(?: (?P<brand>Edg|EdgA|OPR)/(?P<brand_major>\d+)[\d.]*)?"
)
_FIREFOX = re.compile(r"Mozilla/5\.0 \([^)]*rv:[\d.]+\) Gecko/[\d.]+ Firefox/(?P<major>\d+)[\d.]*")
_SAFARI = re.compile(
    r"Mozilla/5\.0 \((?:Macintosh(?!.*Mobile)|iPhone|iPad);[^)]+\) AppleWebKit/[\d.]+ "
    r"\(KHTML, like Gecko\) Version/(?P<major>\d+)[\d.]* (?:Mobile/\w+ )?Safari/[\d.]+"
)
_SYSTEMS = {  # in this order: an Android user agent names Linux too
    "Windows NT": "Windows",
    "Macintosh": "macOS",
    "CrOS": "Chrome OS",
    "Android": "Android",
    "X11; Linux": "Linux",
}
_BRANDS = {"Edg": "Microsoft Edge", "EdgA": "Microsoft Edge", "OPR": "Opera"}
OLDEST = {"chromium": 12, "firefox": 12, "safari": 1}
"""Major versions behind the newest of its engine that a browser still in use may be."""


def recognise(user_agent: str) -> Browser | None:
    """Return the browser of a user agent; None for one whose other headers are not known."""
    if match := _FIREFOX.fullmatch(user_agent):
        return Browser("firefox", int(match["major"]))
    if match := _SAFARI.fullmatch(user_agent):
        return Browser("safari", int(match["major"]))
    match = _CHROMIUM.fullmatch(user_agent)
    system = match and next((_SYSTEMS[mark] for mark in _SYSTEMS if mark in match["os"]), None)
    if not match or not system:
        return None
    major = int(match["major"])
    return Browser(
        engine="chromium",
        major=major,
        system=system,
        brand=_BRANDS.get(match["brand"], "Google Chrome"),
        brand_major=int(match["brand_major"] or major),
        mobile=match["mobile"] is not None,
    )


def _client_hints(browser: Browser) -> dict[str, str]:
    """Return the hints Chromium sends unasked, as it makes them out of its major version.

    The order of the brands and the look of the invented one ("Not-A.Brand") follow
    ``components/embedder_support/user_agent_utils.cc`` of Chromium (104 and later).
    """
    seed = browser.major
    marks = " (:-./);=?_"
    invented = f"Not{marks[seed % 11]}A{marks[(seed + 1) % 11]}Brand"
    brands = [
        f'"{invented}";v="{("8", "99", "24")[seed % 3]}"',
        f'"Chromium";v="{browser.major}"',
        f'"{browser.brand}";v="{browser.brand_major}"',
    ]
    places = ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))[seed % 6]
    in_place = dict(zip(places, brands, strict=True))
    return {
        "sec-ch-ua": ", ".join(in_place[place] for place in range(3)),
        "sec-ch-ua-mobile": "?1" if browser.mobile else "?0",
        "sec-ch-ua-platform": f'"{browser.system}"',
    }


def _accept(browser: Browser) -> str:
    """Return Accept as the browser sends it for a page (MDN, "List of default Accept values")."""
    pages = "text/html,application/xhtml+xml,application/xml;q=0.9,"
    if browser.engine == "chromium":
        return (
            f"{pages}image/avif,image/webp,image/apng,*/*;q=0.8,"
            "application/signed-exchange;v=b3;q=0.7"
        )
    if browser.engine == "firefox" and browser.major < 132:
        newer = "image/png,image/svg+xml," if browser.major >= 128 else ""
        return f"{pages}image/avif,image/webp,{newer}*/*;q=0.8"
    return f"{pages}*/*;q=0.8"


def accept_language(languages: Sequence[str], engine: str = "chromium") -> str:
    """Return Accept-Language; Firefox spreads the weights evenly, the others go down by 0.1."""
    step = 1 / len(languages) if engine == "firefox" else 0.1
    weighted = (
        f"{language};q={int(max(1 - step * place, 0.1) * 10 + 0.5) / 10}"
        for place, language in enumerate(languages[1:], 1)
    )
    return ",".join([languages[0], *weighted])


def browser_headers(user_agent: str, browser: Browser, languages: Sequence[str]) -> dict[str, str]:
    """Return the headers of a page request by the browser; Accept-Encoding is left to Scrapy."""
    hints = _client_hints(browser) if browser.engine == "chromium" else {}
    return {
        **hints,
        "User-Agent": user_agent,
        "Accept": _accept(browser),
        "Accept-Language": accept_language(languages, browser.engine),
    }
