"""One line in ``ADDONS`` turns everything on."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
            ("DOWNLOADER_MIDDLEWARES", "scrapy_session_filter.SessionFilterMiddleware", 650),
            ("DOWNLOADER_MIDDLEWARES", "scrapy_session_filter.ProxyGate", 995),
            ("EXTENSIONS", "scrapy_session_filter.SessionFilterExtension", 500),
        ):
            settings.setdefault_in_component_priority_dict(setting, component, priority)
        if settings.get("SCHEDULER_PRIORITY_QUEUE") != QUEUE:
            settings.set(
                "SESSION_FILTER_SCHEDULER_PRIORITY_QUEUE",
                settings.get("SCHEDULER_PRIORITY_QUEUE"),
                "addon",
            )
            settings.set(
                "SCHEDULER_PRIORITY_QUEUE",
                QUEUE,
                max(settings.getpriority("SCHEDULER_PRIORITY_QUEUE") or 0, 15),
            )
