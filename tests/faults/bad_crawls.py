"""Crawls with every bad setting that the other tests know of, one after the other in one process.

``python -m tests.faults.bad_crawls PAGE GATEWAY`` asks for a page that can be reached directly, too,
and writes a JSON line for each crawl: its name, and the error that stopped it (or None).
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import scrapy
from scrapy.crawler import AsyncCrawlerRunner
from scrapy.settings import Settings
from scrapy.utils.log import configure_logging
from scrapy.utils.reactor import install_reactor

from tests.inputs import test_endpoint as endpoints
from tests.inputs import test_identities as identities
from tests.inputs import test_settings as settings_
from tests.inputs import test_sources as sources

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OURS = "SESSION_FILTER_"
PROXY, PROXIES = OURS + "PROXY", OURS + "PROXIES"
Case = tuple[str, dict[str, Any]]


class OnePage(scrapy.Spider):
    """Asks for one page."""

    name = "one"

    async def start(self) -> Any:
        yield scrapy.Request(self.settings["PAGE"])


def parameters(test: Callable[..., Any]) -> list[Any]:
    """Return the rows of a test's table."""
    (mark,) = (mark for mark in test.pytestmark if mark.name == "parametrize")  # type: ignore[attr-defined]
    return list(mark.args[1])


def bad_settings() -> Iterator[Case]:
    """Yield a name and the settings of each case."""
    yield from bad_values()
    yield from bad_proxies()
    yield from bad_surroundings()


def bad_values() -> Iterator[Case]:
    """Yield values that a setting cannot have, and names that no setting has.

    Where several names share a list of bad values, each value is given to one of them.
    """
    for _, names, values in parameters(settings_.test_bad_value_is_refused_with_its_setting):
        for n in range(max(len(names), len(values))):
            name, value = names[n % len(names)], values[n % len(values)]
            yield f"{name} = {value!r}", {OURS + name: value}
    for name, _ in parameters(settings_.test_case_3_misspelt_setting_is_refused_with_the_nearest):
        yield name, {name: "x"}
    for value, _ in parameters(identities.test_cases_8_and_9_source_that_cannot_work_is_refused):
        yield f"IDENTITY = {value!r}", {OURS + "IDENTITY": value}


def bad_proxies() -> Iterator[Case]:
    """Yield proxies that cannot be read, alone, in a list and in a file, and none or too many."""
    for _, proxy, _ in parameters(endpoints.test_bad_proxy_is_refused_without_its_password):
        yield f"PROXY = {proxy!r}", {PROXY: proxy}
        yield f"PROXIES = [{proxy!r}]", {PROXY: None, PROXIES: [proxy]}
    for template in parameters(endpoints.test_mistaken_template_is_refused):
        yield f"template {template}", {PROXY: f"http://u-{template}:topsecret@gw.example:80"}
    for content, _ in parameters(sources.test_case_22_bad_content_is_refused_with_its_line):
        Path("proxies.txt").write_bytes(content)
        yield f"file {content[:40]!r}", {PROXY: None, PROXIES: "proxies.txt"}
    for proxy, proxies, _ in parameters(
        sources.test_case_1_neither_both_or_something_else_is_refused
    ):
        yield f"sources {proxy!r} {proxies!r}", {PROXY: proxy, PROXIES: proxies}
    for values in parameters(settings_.test_case_1_neither_or_both_proxy_settings_are_refused):
        yield f"proxies {values!r}", {PROXY: None, **values}


def bad_surroundings() -> Iterator[Case]:
    """Yield handlers and middlewares with which proxies would not work."""
    for case, handler, proxy, _ in parameters(
        settings_.test_proxy_that_the_download_handler_cannot_use_is_refused
    ):
        handlers = {"https": settings_.HANDLERS + handler}
        yield f"handler {case}", {PROXY: proxy, "DOWNLOAD_HANDLERS": handlers}
    for setting, component, position in parameters(
        settings_.test_case_16_wrong_position_or_a_missing_part_is_refused
    ):
        by_hand = {name: dict(parts) for name, parts in settings_.COMPONENTS.items()}
        by_hand[setting][settings_.OURS + component] = position
        yield f"{component} at {position}", {"ADDONS": {}, **by_hand}
    yield "no HttpProxyMiddleware", {"HTTPPROXY_ENABLED": False}
    yield "no encoding", {"HTTPPROXY_AUTH_ENCODING": "no-such-encoding"}


def crawl_settings(page: str, gateway: str, case: dict[str, Any]) -> Settings:
    """Return the settings of a crawl that would work but for the case's."""
    settings = Settings(
        {
            "ADDONS": {"scrapy_session_filter.Addon": 500},
            "SESSION_FILTER_IDENTITY": None,
            "SESSION_FILTER_PROXY": gateway,
            "SESSION_FILTER_STORE": "memory:",
            "TELNETCONSOLE_ENABLED": False,
            "PAGE": page,
        }
    )
    for name, value in case.items():
        settings.set(name, value, "cmdline")
    return settings


async def run(page: str, gateway: str) -> None:
    """Run all crawls and tell of each."""
    for name, case in bad_settings():
        error = None
        try:
            await AsyncCrawlerRunner(crawl_settings(page, gateway, case)).crawl(OnePage)
        except BaseException as raised:  # noqa: BLE001 - whatever it is, the test has to know
            error = f"{type(raised).__name__}: {raised}"
        sys.stdout.write(json.dumps([name, error]) + "\n")


def main() -> None:
    """Run all crawls in one reactor."""
    configure_logging({"LOG_FILE": "crawls.log"})
    install_reactor("twisted.internet.asyncioreactor.AsyncioSelectorReactor")
    from twisted.internet import reactor as installed  # noqa: PLC0415 - now it is that one

    reactor: Any = installed  # its methods are not those of the type that Twisted names

    async def run_and_stop() -> None:
        try:
            await run(*sys.argv[1:])
        finally:
            reactor.stop()

    tasks = []
    reactor.callWhenRunning(lambda: tasks.append(asyncio.ensure_future(run_and_stop())))
    reactor.run()
    tasks[0].result()


if __name__ == "__main__":
    main()
