"""Who is told of what happens in a pool."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from scrapy_session_filter.session import Session


@dataclass(frozen=True, slots=True)
class Watcher:
    """Who is told what happens: by default nobody.

    ``count`` hears of events by name, for the stats; ``urgent`` that a session rests or was retired,
    which wants to be saved at once; ``gone`` that a retired session's last lease has ended, so that
    its cookies and browser contexts can go;
    ``ready`` that a site may have a session again after somebody had to be refused.
    """

    count: Callable[[str], None] = lambda name: None
    urgent: Callable[[], None] = lambda: None
    gone: Callable[[Session], None] = lambda session: None
    ready: Callable[[str], None] = lambda site: None
