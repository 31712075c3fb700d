"""What the crawl tests have in common: settings, requests, and the site's view of sessions."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from scrapy_session_filter.settings import FIELDS, PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from loopback import Visit, World

    from tests.world.crawls import Crawl

PLAIN_QUEUE = {"SCHEDULER_PRIORITY_QUEUE": "scrapy.pqueues.ScrapyPriorityQueue"}


def resting(retry_after: int) -> dict[str, object]:
    """An answer that makes a session rest so many seconds."""
    return {"like": "too-many", "headers": {"Retry-After": str(retry_after)}}


def through(world: World, **settings: Any) -> dict[str, Any]:
    """Settings of a crawl through the gateway, with nothing kept after it; named without prefix.

    The article's policy: it retires a blocked session at once, so counts are predictable.
    """
    ours = {"PROXY": world.gateway, "POLICY": "classic", "STORE": "memory:"}
    ours |= {name: settings.pop(name) for name in list(settings) if name in OURS}
    if "PROXIES" in ours:
        del ours["PROXY"]
    prefixed = {f"SESSION_FILTER_{name}": value for name, value in ours.items()}
    watch = {"tests.crawls.watch.Watch": 1, **settings.pop("EXTENSIONS", {})}
    return {**prefixed, **settings, "EXTENSIONS": watch}


OURS = frozenset(info.name.removeprefix(PREFIX) for info in FIELDS)


def urls(world: World, count: int, path: str = "/page/{}", **where: Any) -> list[str]:
    """URLs of so many pages."""
    return [world.url(path.format(n), **where) for n in range(count)]


def by_visitor(visits: Iterable[Visit]) -> dict[str, list[Visit]]:
    """Visits grouped by the site's own visitor cookie; those that brought none under ``""``."""
    groups: dict[str, list[Visit]] = defaultdict(list)
    for visit in visits:
        groups[cookie(visit)].append(visit)
    return groups


def by_session(world: World) -> dict[str, list[Visit]]:
    """Visits grouped by exit; a session each, where exits are handed out in turn and suffice."""
    groups: dict[str, list[Visit]] = defaultdict(list)
    for visit in world.site.visits:
        groups[visit.exit].append(visit)
    return groups


def cookie(visit: Visit) -> str:
    """The visitor cookie that a visit brought."""
    for pair in visit.headers.get("cookie", "").split("; "):
        name, _, value = pair.partition("=")
        if name == "visitor":
            return value
    return ""


def stat(result: Crawl, name: str) -> int:
    """One of our counts."""
    value: int = result.stats.get(f"session_filter/{name}", 0)
    return value


def assert_clean(world: World, result: Crawl) -> None:
    """Nothing went out bare, every lease ended by itself, no jar outlived its session."""
    assert result.exit_code == 0, result.log[-3000:]
    assert not world.site.direct_visits
    assert result.stats["watch/leases"] == 0
    assert result.stats["watch/in_flight"] == 0
    assert result.stats["watch/orphan_jars"] == 0
    assert "Traceback" not in result.log, result.log


def seen_by(world: World, condition: Callable[[Visit], bool]) -> list[Visit]:
    """The visits that meet a condition."""
    return [visit for visit in world.site.visits if condition(visit)]
