"""Errors in the project's own hooks: the crawl goes on, and says so."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger("scrapy_session_filter")


class HookErrors:
    """Counts every error as ``hook_errors`` with ``count``, and says each text once."""

    def __init__(self, count: Callable[[str], None]) -> None:
        self._count = count
        self._said: set[str] = set()

    def note(self, text: str, error: Exception | None = None) -> None:
        """Note an error; ``text`` names the hook, what it did, and what comes of that."""
        self._count("hook_errors")
        if text not in self._said:
            self._said.add(text)
            logger.error("%s (said once)", text, exc_info=error)

    def outlive(self, *steps: Callable[[], None]) -> None:
        """Take all steps, whatever one of them raises: a looping call that fails once is over."""
        for step in steps:
            self._outlive(step)

    def _outlive(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception as error:  # noqa: BLE001 - policies and stats may be the project's own
            self.note(f"{step.__name__.strip('_')} failed; the crawl goes on", error)
