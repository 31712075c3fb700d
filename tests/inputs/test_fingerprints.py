"""Header sets of browserforge: put right, coherent, and drawn without a network."""

from __future__ import annotations

import random
import re
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from scrapy_session_filter.browsers import recognise
from scrapy_session_filter.exceptions import ConfigurationError
from scrapy_session_filter.identities import check_headers, identity_source

if TYPE_CHECKING:
    from typing import Any

pytest.importorskip("browserforge")

from scrapy_session_filter.fingerprints import BrowserforgeSource

FETCH = {
    "Sec-Fetch-Site": "none",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-User": "?1",
    "Sec-Fetch-Dest": "document",
}


@pytest.mark.parametrize("platform", ["desktop", "mobile"])
def test_no_header_set_contradicts_itself(platform: str) -> None:
    """Hints name the browser, version and system of the User-Agent; the four Sec-Fetch are right."""
    source, rng = BrowserforgeSource(platform, languages=("de-DE", "de")), random.Random(1)
    agents = set()
    for _ in range(300):
        headers = dict(check_headers(source.draw(rng)))
        assert {name: headers[name] for name in FETCH} == FETCH
        browser = recognise(headers["User-Agent"])
        assert browser is not None
        assert browser.engine == "chromium"
        assert browser.mobile is (platform == "mobile")
        versions = dict(re.findall(r'"([^"]+)";v="(\d+)"', headers["sec-ch-ua"]))
        assert versions["Chromium"] == str(browser.major)
        assert versions[browser.brand] == str(browser.brand_major)
        assert headers["sec-ch-ua-platform"] == f'"{browser.system}"'
        assert headers["sec-ch-ua-mobile"] == ("?1" if browser.mobile else "?0")
        assert headers["Accept-Language"] == "de-DE,de;q=0.9"
        assert not {"Accept-Encoding", "Connection", "Host"} & set(headers)
        assert len({name.lower() for name in headers}) == len(headers)
        agents.add(headers["User-Agent"])
    assert len(agents) > 2


def test_a_draw_follows_from_its_generator() -> None:
    """The same generator gives the same headers, and other random numbers are left alone."""
    source = BrowserforgeSource()
    random.seed(5)
    expected = [random.random() for _ in range(3)]
    random.seed(5)
    found, first = [], []
    for seed in range(3):
        first.append(source.draw(random.Random(seed)))
        found.append(random.random())
    assert found == expected
    assert [source.draw(random.Random(seed)) for seed in range(3)] == first


def test_equal_headers_are_one_mapping() -> None:
    """Sessions with the same headers share the memory."""
    source, rng = BrowserforgeSource(), random.Random(1)
    drawn = [source.draw(rng) for _ in range(200)]
    assert len({id(headers) for headers in drawn}) == len({tuple(h.items()) for h in drawn}) < 60


def test_the_setting_draws_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """'browserforge' as SESSION_FILTER_IDENTITY is a desktop Chromium, and no socket is opened."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(socket, "socket", refuse)
    headers = identity_source("browserforge").draw(random.Random(3))
    assert "Chrome/" in headers["User-Agent"]
    assert headers["sec-ch-ua-mobile"] == "?0"


def test_a_missing_extra_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package the error names what to install."""
    monkeypatch.setitem(sys.modules, "browserforge.headers", None)
    with pytest.raises(ConfigurationError, match=r"pip install .*\[browserforge\]"):
        identity_source("browserforge")


def test_it_is_only_imported_when_asked_for() -> None:
    """The default identity source works without the package."""
    code = (
        "import sys; sys.modules['browserforge'] = None\n"
        "from scrapy_session_filter.identities import identity_source\n"
        "identity_source('fake-useragent')"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
