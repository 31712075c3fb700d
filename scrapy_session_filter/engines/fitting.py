"""Making a session's headers agree with the browser that runs, whatever engine sends them.

One visitor has one User-Agent. A browser cannot well pretend to be another one (scripts, client
hints and TLS tell), so where the identity contradicts the browser the browser wins.
"""

from __future__ import annotations

import logging
import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from scrapy.utils.misc import load_object

from scrapy_session_filter.browsers import Browser, accept_language, recognise
from scrapy_session_filter.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scrapy.settings import Settings

logger = logging.getLogger("scrapy_session_filter")

_NAMES = {  # as browsers write them over HTTP/1.1, in the order of Chromium
    "sec-ch-ua": "sec-ch-ua",
    "sec-ch-ua-mobile": "sec-ch-ua-mobile",
    "sec-ch-ua-platform": "sec-ch-ua-platform",
    "upgrade-insecure-requests": "Upgrade-Insecure-Requests",
    "user-agent": "User-Agent",
    "accept": "Accept",
}
_OPTIONS = "PLAYWRIGHT_LAUNCH_OPTIONS"
_PROVIDER = "scrapy_playwright.provider.PlaywrightBrowserProvider"  # its default
_PROBE = "https://probe.invalid/"  # answered inside the browser: nothing is sent anywhere


class RunningBrowser:
    """What the browser in use says of itself: ``headers`` of a page request over https.

    ``any_system`` lets identities keep an operating system that is not this machine's.
    """

    def __init__(self, headers: Mapping[str, str], *, any_system: bool) -> None:
        self.headers = MappingProxyType(
            {name: headers[key] for key, name in _NAMES.items() if key in headers}
        )
        self._browser = recognise(self.headers.get("User-Agent", ""))
        self._any_system = any_system
        self._fitted: dict[tuple[tuple[str, str], ...], Mapping[str, str]] = {}

    def fit(self, headers: Mapping[str, str], locale: str | None) -> Mapping[str, str]:
        """Return the headers a session of this browser should send everywhere.

        ``headers`` themselves if they agree already (or are none: then they are Scrapy's). The
        languages stay, unless ``locale`` asks for another one.
        """
        if not headers:
            return headers
        named = {name.lower(): value for name, value in headers.items()}
        languages = named.get("accept-language", "")
        agrees = self._agrees(recognise(named.get("user-agent", "")))
        if locale and first_language(languages).lower() != locale.lower():
            engine = self._browser.engine if self._browser else "chromium"
            languages = accept_language(_languages(locale), engine)
        elif agrees:
            return headers
        fitted = {
            name: value
            for name, value in (headers if agrees else self.headers).items()
            if name.lower() != "accept-language"
        }
        if languages:
            fitted["Accept-Language"] = languages
        # Sessions with equal headers share them: they are prepared for sending once.
        return self._fitted.setdefault(tuple(fitted.items()), MappingProxyType(fitted))

    def _agrees(self, browser: Browser | None) -> bool:
        mine = self._browser
        return (
            mine is not None
            and browser is not None
            and (browser.engine, browser.major) == (mine.engine, mine.major)
            and (self._any_system or browser.system == mine.system)
        )


def first_language(languages: str) -> str:
    """Return the language that an Accept-Language header prefers; may be empty."""
    return languages.partition(",")[0].partition(";")[0].strip()


def _languages(locale: str) -> tuple[str, ...]:
    general = locale.partition("-")[0]
    return (locale,) if general == locale else (locale, general)


async def ask_browser(settings: Settings, *, any_system: bool) -> RunningBrowser:
    """Start the browser as scrapy-playwright will, look at a page request of it, and end it.

    Raises `ConfigurationError` where it cannot be started.
    """
    config = load_object("scrapy_playwright.handler.Config").from_settings(settings)
    path = settings["PLAYWRIGHT_BROWSER_PROVIDER"] or _PROVIDER
    provider = load_object(path)(config)
    try:
        await provider.start()
        browser = await provider.launch_browser()
        try:
            headers = await _headers_of(browser)
        finally:
            await browser.close()
    except Exception as error:
        lines = [line for line in str(error).splitlines() if line.strip(" ╔╗═")]
        expected = (
            "a browser that starts: install one (Debian: apt install chromium; else: playwright"
            " install) and name it in PLAYWRIGHT_LAUNCH_OPTIONS = {'executable_path': ...}"
            f" ({type(error).__name__}: {' '.join(lines)[:300]})"
        )
        value = settings.getdict(_OPTIONS).get("executable_path")
        raise ConfigurationError(_OPTIONS, value, expected) from error
    finally:
        await provider.close()
    running = RunningBrowser(headers, any_system=any_system)
    logger.info("Browser sessions are %s", running.headers.get("User-Agent"))
    return running


async def _headers_of(browser: Any) -> dict[str, str]:
    """Return the headers of a page request, without the word that gives a headless browser away."""
    seen: dict[str, str] = {}

    async def answer(route: Any) -> None:
        seen.update(await route.request.all_headers())
        await route.fulfill(content_type="text/html", body="")

    context = await browser.new_context()
    try:
        page = await context.new_page()
        await page.route("**/*", answer)
        await page.goto(_PROBE)
    finally:
        await context.close()
    seen["user-agent"] = re.sub(r"Headless(?=Chrome/)", "", seen.get("user-agent", ""))
    return seen
