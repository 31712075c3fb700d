"""Header sets: drawn cheaply, in agreement with themselves, and checked."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections import Counter
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scrapy import Request

from scrapy_session_filter import identities
from scrapy_session_filter.browsers import browser_headers, recognise
from scrapy_session_filter.exceptions import ConfigurationError
from scrapy_session_filter.identities import (
    FakeUserAgentSource,
    check_headers,
    identity_source,
)
from scrapy_session_filter.sendable import UnsendableHeaders

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

WINDOWS = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
MAC = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) "


def headers_of(user_agent: str) -> dict[str, str]:
    browser = recognise(user_agent)
    assert browser is not None
    return browser_headers(user_agent, browser, ("en-US", "en"))


# --- the headers of a browser --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("user_agent", "brands", "system"),
    [
        (
            WINDOWS + "Chrome/131.0.0.0 Safari/537.36",
            '"Google Chrome";v="131", "Chromium";v="131", "Not_A Brand";v="24"',
            '"Windows"',
        ),
        (
            MAC + "Chrome/135.0.0.0 Safari/537.36",
            '"Google Chrome";v="135", "Not-A.Brand";v="8", "Chromium";v="135"',
            '"macOS"',
        ),
        (
            WINDOWS + "Chrome/134.0.0.0 Safari/537.36 Edg/134.0.0.0",
            '"Chromium";v="134", "Not:A-Brand";v="24", "Microsoft Edge";v="134"',
            '"Windows"',
        ),
        (
            WINDOWS + "Chrome/132.0.0.0 Safari/537.36 OPR/117.0.0.0",
            '"Not A(Brand";v="8", "Chromium";v="132", "Opera";v="117"',
            '"Windows"',
        ),
    ],
)
def test_client_hints_are_those_of_the_real_browser(
    user_agent: str, brands: str, system: str
) -> None:
    """The brands are, to the letter, those that these versions were seen to send."""
    headers = headers_of(user_agent)
    assert headers["sec-ch-ua"] == brands
    assert headers["sec-ch-ua-platform"] == system
    assert headers["sec-ch-ua-mobile"] == "?0"


@pytest.mark.parametrize(
    ("user_agent", "accept"),
    [
        (
            "Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0",
            "avif,image/webp,*/*",
        ),
        (
            "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
            "png,image/svg+xml,*/*",
        ),
        ("Mozilla/5.0 (X11; Linux x86_64; rv:137.0) Gecko/20100101 Firefox/137.0", "xml;q=0.9,*/*"),
    ],
)
def test_firefox_has_no_client_hints_and_the_accept_of_its_version(
    user_agent: str, accept: str
) -> None:
    """Firefox changed Accept in 128 and 132, and weighs languages evenly."""
    headers = headers_of(user_agent)
    assert headers.keys() == {"User-Agent", "Accept", "Accept-Language"}
    assert headers["Accept"].endswith(f"{accept};q=0.8")
    assert headers["Accept-Language"] == "en-US,en;q=0.5"


@pytest.mark.parametrize(
    ("engine", "languages", "expected"),
    [
        (
            "Chrome/135.0.0.0 Safari/537.36",
            ("de-DE", "de", "en-US", "en"),
            "de-DE,de;q=0.9,en-US;q=0.8,en;q=0.7",
        ),
        ("Chrome/135.0.0.0 Safari/537.36", ("de",), "de"),
        ("Firefox", ("tr-TR", "tr", "en-US", "en"), "tr-TR,tr;q=0.8,en-US;q=0.5,en;q=0.3"),
        ("Firefox", ("en-CA", "en-US", "en"), "en-CA,en-US;q=0.7,en;q=0.3"),
    ],
)
def test_accept_language_is_weighed_as_the_browser_does(
    engine: str, languages: tuple[str, ...], expected: str
) -> None:
    """The weights are those that Chrome and Firefox were seen to send."""
    user_agent = (
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:137.0) Gecko/20100101 Firefox/137.0"
        if engine == "Firefox"
        else WINDOWS + engine
    )
    browser = recognise(user_agent)
    assert browser is not None
    assert browser_headers(user_agent, browser, languages)["Accept-Language"] == expected


@pytest.mark.parametrize(
    "user_agent",
    [
        "",
        "curl/8.0",
        WINDOWS + "Chrome/132.0.0.0 YaBrowser/25.2.0.0 Safari/537.36",
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)",
        "Mozilla/5.0 (Macintosh; x) AppleWebKit/6 (KHTML, like Gecko) Version/18 Mobile/1 Safari/6",
        "Mozilla/5.0 (Haiku) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/132.0.0.0 Safari/537.36",
    ],
)
def test_browser_whose_other_headers_are_unknown_is_not_used(user_agent: str) -> None:
    """Rather no such visitor than one that contradicts itself."""
    assert recognise(user_agent) is None


# --- fake-useragent ------------------------------------------------------------------------------


@pytest.mark.parametrize("platform", ["desktop", "mobile", "tablet"])
def test_no_header_set_contradicts_itself(platform: str) -> None:
    """In every set that can be drawn, hints, versions, systems and Accept fit the User-Agent."""
    header_sets, _ = identities._header_sets(platform, ("en-US", "en"))
    assert len(header_sets) >= 4
    for headers in header_sets:
        user_agent = headers["User-Agent"]
        is_chromium = "Chrome/" in user_agent
        assert ("sec-ch-ua" in headers) is is_chromium
        assert ("image/apng" in headers["Accept"]) is is_chromium
        assert "Accept-Encoding" not in headers
        assert ("Mobi" in user_agent or "iPad" in user_agent or "Android" in user_agent) is (
            platform != "desktop"
        )
        if not is_chromium:
            continue
        brands = dict(re.findall(r'"([^"]+)";v="(\d+)"', headers["sec-ch-ua"]))
        assert len(brands) == 3
        assert f"Chrome/{brands['Chromium']}." in user_agent
        for brand, mark in (("Microsoft Edge", "Edg"), ("Opera", "OPR/")):
            assert (brand in brands) is (mark in user_agent)
        assert (headers["sec-ch-ua-mobile"] == "?1") is ("Mobile" in user_agent)
        system = headers["sec-ch-ua-platform"].strip('"')
        mark = {"Windows": "Windows NT", "macOS": "Macintosh", "Chrome OS": "CrOS"}.get(
            system, system
        )
        assert mark in user_agent


def test_drawing_follows_the_shares_and_the_generator() -> None:
    """Current Chrome on Windows leads, many others come too, and a seed repeats its draws."""
    source = FakeUserAgentSource()
    rng = Random(1)
    drawn = Counter(source.draw(rng)["User-Agent"] for _ in range(5000))
    leader, count = drawn.most_common(1)[0]
    assert "Windows" in leader
    assert 0.15 < count / 5000 < 0.6
    assert len(drawn) > 30
    again = Random(7)
    first = [source.draw(Random(7)), source.draw(again)]
    assert first[0] is first[1]


def test_drawing_is_cheap_and_shares_its_memory() -> None:
    """A draw takes microseconds, not the library's milliseconds; same user agent, same object."""
    source, rng = FakeUserAgentSource(), Random(1)
    source.draw(rng)
    started = time.process_time()
    drawn = [source.draw(rng) for _ in range(10_000)]
    assert (time.process_time() - started) / 10_000 < 50e-6
    assert len({id(headers) for headers in drawn}) == len({h["User-Agent"] for h in drawn})
    with pytest.raises(TypeError):
        drawn[0]["User-Agent"] = "x"  # type: ignore[index]


def test_package_without_such_browsers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library would silently make everybody the same Edge 122."""
    identities._header_sets.cache_clear()
    with pytest.raises(ConfigurationError, match="watch browsers"):
        FakeUserAgentSource("watch").draw(Random())


# --- checks --------------------------------------------------------------------------------------

UA = {"User-Agent": "Mozilla/5.0"}


@pytest.mark.parametrize(
    ("case", "headers"),
    [
        (52, {"User-Agent": "Mozilla/5.0\r\nX-Evil: 1"}),
        (52, {"User-Agent": "a\nb"}),
        (53, {"User-Agent": "a\x00b"}),
        (53, {"User-Agent": ""}),
        (53, {"User-Agent": "   "}),
        (53, {"User-Agent": "x" * 1025}),
        (53, {"User-Agent": "x" * 100_000}),
        (53, {"User-Agent": "日本"}),
        (0, {"User-Agent": None}),
        (0, {"User-Agent": b"Mozilla"}),
        (0, {"User-Agent": ["Mozilla"]}),
        (0, {"Accept": "*/*"}),
        (0, UA | {"Bad Name": "x"}),
        (0, UA | {"Bad:Name": "x"}),
        (0, UA | {"X\r\n": "x"}),
        (0, UA | {"": "x"}),
        (0, {"User-Agent": "x", b"X": "x"}),
        (0, UA | {"X": "a\x7fb"}),
        (0, UA | {"Cookie": "a=b"}),
        (0, UA | {"HOST": "x"}),
        (0, UA | {"proxy-authorization": "Basic x"}),
        (0, UA | {"Accept-Encoding": "gzip"}),
        (0, UA | {"Content-Length": "3"}),
        (0, None),
        (0, "Mozilla/5.0"),
        (0, [("User-Agent", "x")]),
    ],
)
def test_header_set_that_cannot_be_sent_is_refused(case: int, headers: Any) -> None:
    """At start it stops the crawl, naming the setting."""
    with pytest.raises(UnsendableHeaders):
        check_headers(headers)
    with pytest.raises(ConfigurationError, match="SESSION_FILTER_IDENTITY"):
        identity_source(lambda rng: headers)


@given(st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=3))
def test_checked_headers_go_into_a_request_and_out_unchanged(extra: dict[str, str]) -> None:
    """Whatever passes the check has no line ends or NULs and survives Scrapy's own Headers."""
    try:
        checked = check_headers({"User-Agent": "Mozilla/5.0", **extra})
    except UnsendableHeaders:
        return
    request = Request("http://h.example", headers=dict(checked))
    for name, value in checked.items():
        assert not set(value) & set("\r\n\0")
        if len([n for n in checked if n.lower() == name.lower()]) == 1:
            assert request.headers[name] == value.encode()


# --- the setting ---------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, "None", "none", ""])
def test_none_leaves_scrapys_own_headers(value: object) -> None:
    """No identity means no header of ours."""
    assert identity_source(value).draw(Random()) == {}


def test_default_source_gives_a_whole_visitor() -> None:
    """The named source gives plain text that JSON can hold."""
    headers = identity_source("fake-useragent").draw(Random(3))
    assert {"User-Agent", "Accept", "Accept-Language"} <= headers.keys()
    assert json.loads(json.dumps(dict(headers))) == headers


def function(rng: Random) -> Mapping[str, str]:
    return {"User-Agent": f"Mozilla/{rng.randint(1, 9)}"}


class Source:
    def draw(self, rng: Random) -> Mapping[str, str]:
        return function(rng)


@pytest.mark.parametrize(
    "value", [function, Source, Source(), f"{__name__}.function", f"{__name__}:Source"]
)
def test_users_source_may_be_a_function_a_class_or_their_path(value: object) -> None:
    """All forms are understood, and draw with the generator that is handed in."""
    assert identity_source(value).draw(Random(5)) == function(Random(5))


class NeedsArguments:
    def __init__(self, path: str) -> None:
        self.draw = function


class Breaks:
    def __init__(self) -> None:
        msg = "no file"
        raise OSError(msg)


def raising(rng: Random) -> Mapping[str, str]:
    msg = "no data"
    raise LookupError(msg)


async def async_function(rng: Random) -> Mapping[str, str]:
    await asyncio.sleep(0)
    return UA


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("chrome", "import path"),
        ("no_such_module.x", "ModuleNotFoundError"),
        (f"{__name__}.nothing", "AttributeError"),
        (f"{__name__}.UA", "import path"),
        (lambda: UA, "random.Random"),
        (lambda a, b: UA, "random.Random"),
        (5, "import path"),
        (NeedsArguments, "needs arguments"),
        (Breaks, "OSError: no file"),
        (raising, "LookupError: no data"),
        (async_function, "not coroutine"),
        (lambda rng: None, "not NoneType"),
    ],
)
def test_cases_8_and_9_source_that_cannot_work_is_refused(value: object, said: str) -> None:
    """It stops the crawl before the first request, and says why."""
    with pytest.raises(ConfigurationError, match=re.escape(said)) as caught:
        identity_source(value)
    assert caught.value.setting == "SESSION_FILTER_IDENTITY"


def test_source_that_fails_later_keeps_the_last_headers(caplog: pytest.LogCaptureFixture) -> None:
    """A crawl of hours does not end because a user's function failed once; the log says so."""
    answers: list[Any] = [UA, {"User-Agent": "a\r\nb"}, OSError("x"), {"User-Agent": "new"}]

    def draw(rng: Random) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    source = identity_source(draw)
    assert [source.draw(Random()) for _ in range(3)] == [UA, UA, {"User-Agent": "new"}]
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2


def test_case_54_empty_headers_mean_scrapys_own_and_are_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A source with nothing to give leaves the spider's User-Agent, with one INFO line."""
    caplog.set_level(logging.INFO)
    source: Callable[[Random], Any] = identity_source(lambda rng: {}).draw
    assert [source(Random()) for _ in range(3)] == [{}] * 3
    assert [record.levelno for record in caplog.records] == [logging.INFO]
