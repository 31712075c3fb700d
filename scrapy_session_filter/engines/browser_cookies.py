"""Cookies flow both ways between a session's jar and its browser contexts.

Each side is told only of what changed on the other since they last agreed: other requests of the
session, by HTTP or in the browser of the other URL scheme, may be under way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scrapy_session_filter.engines.browser_state import differs, from_browser, key_of, to_browser
from scrapy_session_filter.engines.cookies import SessionJars

if TYPE_CHECKING:
    from scrapy.crawler import Crawler

    from scrapy_session_filter.engines.browser_state import Key, Row
    from scrapy_session_filter.engines.contexts import Context
    from scrapy_session_filter.session import Session


class BrowserCookies:
    """Keeps jars and contexts in step."""

    def __init__(self, crawler: Crawler) -> None:
        self._jars = SessionJars(crawler)

    def rows(self, session: Session) -> dict[Key, Row]:
        """Return the cookies of a session's jar."""
        return {key_of(row): row for row in self._jars.rows(session)}

    async def bring(self, context: Context) -> None:
        """Tell the browser what has become of the session's cookies."""
        rows, synced = self.rows(context.session), context.synced
        changed = [row for key, row in rows.items() if differs(row, synced.get(key))]
        dropped = [key for key in synced if key not in rows]
        browser = context.browser_context
        for domain, path, name in dropped:
            await browser.clear_cookies(domain=domain, path=path, name=name)
        if changed:
            await browser.add_cookies([to_browser(row) for row in changed])
        context.synced = rows

    async def take(self, context: Context) -> None:
        """Bring the session's jar to what has become of the browser's cookies."""
        browser, session = context.browser_context, context.session
        if browser is None:
            return
        try:
            found = from_browser(await browser.cookies())
        except Exception:  # noqa: BLE001 - Playwright's own: the browser is gone
            return
        for key, row in found.items():
            if differs(row, context.synced.get(key)):
                self._jars.put(session, row)
        for key in context.synced.keys() - found.keys():
            self._jars.drop(session, *key)
        # What the jar does not take stays the browser's own affair.
        context.synced = {key: found[key] for key in self.rows(session) if key in found}
