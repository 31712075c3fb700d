"""Is the site itself in trouble? Where all fails that should have worked, nobody is to blame.

A CUSUM of log-likelihood ratios (Page, *Continuous inspection schemes*, Biometrika 1954) between
"the site is down: an answer fails with chance .98" and "all is as predicted". Failures of sessions
that were expected to fail say nothing, so a list of which 95 % is banned is no outage.

While the site is down, a pause lets only probes through, further apart the longer it lasts. After
the pause, or a probe that passes, some trials go out, half a second apart; they end it or start a
longer one. One success ends a suspicion, two or three an outage: with many requests in flight, one of
them gets through to most sites that are down. The latch expires: a pool whose sessions are all banned
looks the same, and must be explored again one day.
"""

from __future__ import annotations

import math
from typing import Any

_FAILS = 0.98  #: chance that an answer fails while the site is down (some caches still answer)
_LEAST, _MOST = 0.02, 0.95  #: what a prediction is clamped to: no one failure proves or hides much
_ALARM = (
    12.0  #: nats; 5 failures in a row where .95 was predicted; 8 works as well, and trips oftener
)
_AGAIN = 6.0  #: nats kept when the alarm rings, so that two or three failed trials ring it again
_SUREST = 10.0  #: nats that failures in a pause lead to at most; a success takes 3.9
_PAUSE, _PAUSE_MOST = 5.0, 60.0  #: seconds of the first pause; it doubles
_PROBE = 2.0  #: seconds between probes in the first pause, a quarter of the pause in longer ones,
_PROBE_MOST = 10.0  #: at most so many: the site must be back at full speed within 30 s
_FIRST_PROBE = 1.0  #: seconds until the first probe of a pause
_TRIAL, _TRIALS = (
    0.5,
    8,
)  #: seconds between trials after a pause, and how many fail before it is over
_LATCH = 300.0  #: seconds without any success until we stop calling it an outage


class SiteHealth:
    """Tells an outage of the site from blocked sessions, and holds requests back meanwhile.

    Pure: every method is handed the time, in seconds of a clock that only runs forward. The pool
    calls `gate` before it asks its policy and `probe` when a request then goes out, which is for when
    the site is `down`, and `passed` or `failed` with every answer except transport errors (they speak
    of proxies, not of the site).
    """

    __slots__ = ("_next", "_pause", "_rang", "_suspicion", "_trials", "_until", "down", "since")

    def __init__(self) -> None:
        self.since: float | None = None
        """When the running streak of failures began, or None."""
        self.down = False  #: the site looks down: failures blame no session
        self._suspicion = 0.0  # nats
        self._pause = _PAUSE  # how long the next pause will be
        self._until = 0.0  # end of the running pause; trials follow it
        self._next = 0.0  # when the next probe or trial may go out
        self._trials = 0  # failed since the pause ended
        self._rang = -math.inf  # when the alarm rang last

    def passed(self, now: float, sent: float) -> None:
        """Take in a success of a request that was ``sent`` then; any 404 is one, a SITE_ERROR is not."""
        if self.down:
            if self.since is not None and sent < self.since:
                return  # before the trouble began
            self._suspicion += math.log((1.0 - _FAILS) / _MOST)
            if self._suspicion > 0.0:
                if sent >= self._rang:  # a probe or a trial; was that the end?
                    self._until = self._next = now
                return
        self._clear()
        self._pause = _PAUSE

    def failed(self, now: float, predicted: float) -> None:
        """Take in a failure.

        ``predicted`` is the chance of success (0..1) that this request had as we know it *now*, at
        the report: taken when it was sent, the first requests of an unlucky start would look like
        an outage.
        """
        if self.since is None:
            self.since = now
        surprise = math.log(_FAILS / (1.0 - min(max(predicted, _LEAST), _MOST)))
        if self.down and now < self._until:  # one that was in flight, or a probe
            self._suspicion = max(self._suspicion, min(self._suspicion + surprise, _SUREST))
            return
        self._suspicion += surprise
        if self._suspicion > _ALARM:
            self.down = True
            self._rang = now
            self._suspicion = _AGAIN
            self._until = now + self._pause
            self._next = now + _FIRST_PROBE
            self._pause = min(self._pause * 2.0, _PAUSE_MOST)
            self._trials = 0
        elif self.down:
            self._trials += 1
            if self._trials >= _TRIALS:  # they failed, but that was to be expected of them
                self.down = False

    def gate(self, now: float) -> float:
        """Return 0 where a request may go out, else for how many seconds to hold it back."""
        if not self.down:
            return 0.0
        if self.since is not None and now - self.since > _LATCH:
            self._clear()
            return 0.0
        return max(0.0, self._next - now)

    def probe(self, now: float) -> None:
        """Note that a request goes out: a probe while the site is down, and the next waits."""
        if self.down:
            in_pause = now < self._until
            gap = min(max(_PROBE, (self._pause / 2.0) / 4.0), _PROBE_MOST)
            self._next = now + (gap if in_pause else _TRIAL)

    def dump(self) -> dict[str, Any]:
        """Return what a restart should know, as plain JSON: how suspicious we are, no times.

        ``down`` is for the reader: a new process finds out for itself.
        """
        return {"suspicion": round(self._suspicion, 3), "pause": self._pause, "down": self.down}

    def load(self, state: dict[str, Any]) -> None:
        """Take back a `dump`; what is not a number in its range is ignored."""
        suspicion, pause = state.get("suspicion"), state.get("pause")
        if isinstance(suspicion, (int, float)) and 0.0 <= suspicion <= _ALARM:
            self._suspicion = float(suspicion)
        if isinstance(pause, (int, float)) and _PAUSE <= pause <= _PAUSE_MOST:
            self._pause = float(pause)

    def explain(self, now: float) -> str:
        """Say in one sentence whether the site looks down; empty while all is well."""
        if self.down and self.since is not None:
            return (
                f"The site looks down: hardly anything has got through for {now - self.since:.0f} s; "
                f"the next probe goes out in {self.gate(now):.1f} s, nobody is blamed."
            )
        return ""

    def _clear(self) -> None:
        self.down = False
        self._suspicion = 0.0
        self.since = None
        self._trials = 0
