"""One line in ``ADDONS`` turns everything on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scrapy_session_filter.extension import SessionFilterExtension
from scrapy_session_filter.gate import ProxyGate
from scrapy_session_filter.middleware import SessionFilterMiddleware

if TYPE_CHECKING:
    from scrapy.settings import BaseSettings

QUEUE = "scrapy_session_filter.SessionAwarePriorityQueue"


class Addon:
    """Puts the middlewares, the extension and the request queue in place.

    It sets nothing the user has set. The request queue in use before is wrapped, not lost.
    """

    def update_settings(self, settings: BaseSettings) -> None:
        """Fill in what is not there yet."""
        for setting, component, priority in (
            ("DOWNLOADER_MIDDLEWARES", SessionFilterMiddleware, 650),
            ("DOWNLOADER_MIDDLEWARES", ProxyGate, 995),
            ("EXTENSIONS", SessionFilterExtension, 500),
        ):
            settings.setdefault_in_component_priority_dict(setting, component, priority)
        if settings["SCHEDULER_PRIORITY_QUEUE"] != QUEUE:
            settings.set(
                "SESSION_FILTER_SCHEDULER_PRIORITY_QUEUE",
                settings["SCHEDULER_PRIORITY_QUEUE"],
                "addon",
            )
            settings.set(
                "SCHEDULER_PRIORITY_QUEUE",
                QUEUE,
                max(settings.getpriority("SCHEDULER_PRIORITY_QUEUE") or 0, 15),
            )
