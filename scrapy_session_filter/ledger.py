"""What answers say beyond their own session: the health of site and proxies, the odds of new ones."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from scrapy_session_filter.policies.health import SiteHealth
from scrapy_session_filter.session import RETIRED, Lease, Outcome, Session
from scrapy_session_filter.verdict import KIND_OK, About, Kind

if TYPE_CHECKING:
    from scrapy_session_filter.policies import Policy
    from scrapy_session_filter.proxies import EndpointHealth, SiteProxies
    from scrapy_session_filter.verdict import Verdict

REPROBE_ODDS = 0.25
"""How much less likely a proxy works for each time that it was blocked on this site before."""
OTHERS_WINDOW = 60.0
"""Seconds in which another session's success counts as "others get through"."""
QUIET = 60.0
"""Seconds without a request, asked for or under way, after which a site's time without a page begins
anew: nobody waited for one. While requests wait, they ask every few seconds."""
DISCOUNT = 0.99
"""What an older answer of a new session counts against the next one: the last hundred matter."""


class Ledger:
    """The accounts of one site; ``proxies`` is None for sessions without a proxy."""

    def __init__(
        self, policy: Policy, proxies: SiteProxies | None, endpoint_health: EndpointHealth
    ) -> None:
        self.health = SiteHealth()
        self.new_odds = [1.0, 1.0]  #: discounted successes and failures of sessions at first
        self.asked = -math.inf  #: when a session was last asked for
        self.hungry_since: float | None = None  #: asked for since then, without one success
        self._policy = policy
        self._proxies = proxies
        self._endpoint_health = endpoint_health
        self._last_ok: tuple[float, Session | None] = (-math.inf, None)

    def ask(self, now: float, in_flight: int) -> None:
        """Note that somebody wants a page of this site; ``in_flight``: requests under way."""
        if self.hungry_since is None or (now - self.asked > QUIET and not in_flight):
            self.hungry_since = now
        self.asked = now

    def fed(self) -> None:
        """Note that what was asked for came: a page, be it of a cache, or an answer wanted as it is."""
        self.hungry_since = None

    def outcome(
        self, lease: Lease, verdict: Verdict, now: float, sent: float, latency: float
    ) -> Outcome:
        """Return what an answer means, given what else is known; the site's health learns of it."""
        session, health = lease.session, self.health
        stale = sent < session.blamed or session.state is RETIRED
        if verdict.kind is KIND_OK:
            health.passed(now, sent)
        elif verdict.kind is not Kind.PROXY_ERROR:
            predicted = 0.0 if stale else self._policy.predict(lease)
            if predicted is None:
                predicted = self._predict(session)
            health.failed(now, predicted)
        when, who = self._last_ok
        others_pass = who is not session and now - when < OTHERS_WINDOW
        return Outcome(verdict, now, sent, latency, stale, health.down, others_pass)

    def _predict(self, session: Session) -> float:
        if session.proven:
            return (session.oks + 1.6) / (session.oks + session.blocks + 2.0)
        good, bad = self.new_odds
        return good / (good + bad) * REPROBE_ODDS ** self._rests(session)

    def _rests(self, session: Session) -> int:
        """Return how often the session's proxy was blocked here before: it may well be again."""
        if self._proxies is None or session.endpoint is None:
            return 0
        return self._proxies.rests(session.endpoint)

    def enter(self, session: Session, outcome: Outcome) -> None:
        """Enter an outcome into the session's counters and everybody else's."""
        if outcome.verdict.kind is KIND_OK:
            self._passed(session, outcome)
        else:
            self._failed(session, outcome)

    def _passed(self, session: Session, outcome: Outcome) -> None:
        if not (session.oks or outcome.site_down):
            self._learn_odds(session, success=True)
        session.oks += 1
        session.errors = 0
        self._last_ok = (outcome.now, session)
        self.fed()
        endpoint = session.endpoint
        if endpoint is not None:
            self._endpoint_health.worked(endpoint)
            if self._proxies is not None:
                self._proxies.worked(endpoint)

    def _failed(self, session: Session, outcome: Outcome) -> None:
        kind, fresh = outcome.verdict.kind, not outcome.stale
        if kind is Kind.BLOCKED and not outcome.site_down:
            self._learn_odds(session, success=False)
            session.blocks += fresh
        elif kind in (Kind.PROXY_ERROR, Kind.SITE_ERROR):
            session.errors += fresh
        endpoint = session.endpoint
        if endpoint is None or kind is Kind.SITE_ERROR:
            return
        if kind is not Kind.PROXY_ERROR:
            self._endpoint_health.worked(endpoint)
            if self._proxies is not None and outcome.verdict.about is About.COUNTRY:
                self._proxies.refuse_country(endpoint)
        elif fresh:
            self._endpoint_health.failed(endpoint, outcome.now)

    def _learn_odds(self, session: Session, *, success: bool) -> None:
        if not session.proven and not self._rests(session):
            self.new_odds = [DISCOUNT * odds for odds in self.new_odds]
            self.new_odds[not success] += 1.0
