"""A session's headers agree with the browser that runs."""

from __future__ import annotations

import pytest

from scrapy_session_filter.browsers import recognise
from scrapy_session_filter.engines.fitting import RunningBrowser, first_language

CHROME = "Mozilla/5.0 ({}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{}.0.0.0 Safari/537.36"
LINUX, WINDOWS = "X11; Linux x86_64", "Windows NT 10.0; Win64; x64"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
SEEN = {
    "accept": "text/html",
    "user-agent": CHROME.format(LINUX, 156),
    "sec-ch-ua": '"Chromium";v="156"',
    "sec-ch-ua-mobile": "?0",
    "sec-ch-ua-platform": '"Linux"',
    "upgrade-insecure-requests": "1",
    "cookie": "not=kept",
}


@pytest.mark.parametrize(
    "user_agent",
    [CHROME.format(LINUX, 136), CHROME.format(WINDOWS, 156), FIREFOX, "curl/8"],
)
def test_what_contradicts_the_browser_gives_way(user_agent: str) -> None:
    """Another browser, version or system becomes the one that runs; the languages stay."""
    running = RunningBrowser(SEEN, any_system=False)
    headers = {"User-Agent": user_agent, "Accept-Language": "de-DE,de;q=0.9", "X-Own": "1"}
    fitted = running.fit(headers, None)
    assert fitted["User-Agent"] == SEEN["user-agent"]
    assert fitted["sec-ch-ua"] == SEEN["sec-ch-ua"]
    assert fitted["Accept-Language"] == "de-DE,de;q=0.9"
    assert not {"cookie", "X-Own"} & set(fitted)
    assert running.fit(headers, None) is fitted  # shared: prepared for sending once
    assert running.fit(fitted, None) is fitted


def test_what_agrees_stays() -> None:
    """The browser's own version stays as it is; of an own identity also another system."""
    mine = {"User-Agent": CHROME.format(LINUX, 156), "Accept": "a/b"}
    assert RunningBrowser(SEEN, any_system=False).fit(mine, None) is mine
    other = {"User-Agent": CHROME.format(WINDOWS, 156)}
    assert RunningBrowser(SEEN, any_system=True).fit(other, None) is other


def test_scrapys_own_headers_stay() -> None:
    """No identity is no identity in a browser either."""
    assert not RunningBrowser(SEEN, any_system=False).fit({}, "de-DE")


def test_locale_sets_the_languages() -> None:
    """A locale that was asked for is what Accept-Language begins with, in every engine."""
    running = RunningBrowser(SEEN, any_system=False)
    headers = {"User-Agent": CHROME.format(LINUX, 156), "Accept-Language": "en-US,en;q=0.9"}
    assert running.fit(headers, "en-US") is headers
    assert running.fit(headers, "de-DE")["Accept-Language"] == "de-DE,de;q=0.9"
    assert running.fit(headers, "de-DE")["User-Agent"] == headers["User-Agent"]
    assert running.fit(headers, "fr")["Accept-Language"] == "fr"


def test_what_the_browser_says_is_recognised() -> None:
    """The fitted headers agree with themselves."""
    fitted = RunningBrowser(SEEN, any_system=False).fit({"User-Agent": FIREFOX}, None)
    browser = recognise(fitted["User-Agent"])
    assert browser is not None
    assert (browser.engine, browser.major) == ("chromium", 156)


@pytest.mark.parametrize(
    ("header", "language"),
    [("en-US,en;q=0.9", "en-US"), ("de;q=0.8", "de"), (" fr , en", "fr"), ("", "")],
)
def test_first_language(header: str, language: str) -> None:
    """The language that a header names first."""
    assert first_language(header) == language
