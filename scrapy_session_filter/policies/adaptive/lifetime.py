"""How long a gateway keeps a session's exit.

Many give a session another exit after one minute, or five, or ten. What works then is chance again, as
with a new session, and nothing that the session did is to blame. That shows in the first request after
such a time: it fails as often as those of new sessions do, and others rarely.
"""

from __future__ import annotations

import math
from bisect import bisect
from typing import TYPE_CHECKING, Any

from scrapy_session_filter.policies.adaptive.saved import number, odds

if TYPE_CHECKING:
    from scrapy_session_filter.policies.adaptive.record import Record

TIMES = (60.0, 120.0, 180.0, 300.0, 600.0, 900.0, 1200.0, 1800.0, 3600.0)
"""Seconds: the times that gateways offer. They are told apart by requests just after them."""
EVIDENCE, KEEP_EVIDENCE = 6.0, 3.0
"""Nats from where on a time is believed, and down to where it stays believed: some three failures in a
row where most sessions work and few new ones do. What is believed by chance is given up: see `AGAIN`."""
AGAIN = 8
"""One in so many sessions that are over is used once more, to see whether it is still so."""
MEMORY = 64.0
"""Requests after a time that are remembered, discounted."""
LEAST, MOST = 0.02, 0.98
"""Bounds of the chances that are compared: one request proves no more."""


class Lifetime:
    """The time after which sessions get another exit; ``seconds`` is infinite where there is none."""

    def __init__(self) -> None:
        self.seconds = math.inf
        self._answers = [[0.0, 0.0] for _ in TIMES]  # passed and blocked just after each time
        self._others = 0.0  # blocked at any other age
        self._blamed: list[list[Record]] = [[] for _ in TIMES]
        self._over = 0

    def is_over(self, age: float) -> bool:
        """Return whether a session of so many seconds is to be replaced."""
        if age <= self.seconds:
            return False
        self._over += 1
        return self._over % AGAIN != 0

    def ends(self, before: float, age: float) -> bool:
        """Return whether a block at this age, after a success before, comes from another exit."""
        return before < self.seconds <= age

    def learn(
        self, before: float, age: float, pages: int, new: float, blocked: Record | None
    ) -> list[Record]:
        """Learn from a working session's answer, at the ages of its last success and of now.

        ``pages`` is how many came through all sessions so far, ``new`` the chance of a new session.
        Return the sessions whose earlier blocks this explains.
        """
        k = bisect(TIMES, before)
        crossed = bisect(TIMES, age) - k
        if crossed != 1:  # none of the times, or nobody knows which of them
            self._others += crossed <= 0 and blocked is not None
            return []
        answers = self._answers[k]
        answers[blocked is not None] += 1.0
        if sum(answers) > MEMORY:
            answers[:] = [0.5 * count for count in answers]
        if blocked is not None:
            self._blamed[k] = [*self._blamed[k][-AGAIN:], blocked]
        return self._weigh(pages, new)

    def _weigh(self, pages: int, new: float) -> list[Record]:
        usual = min((pages + 4.5) / (pages + self._others + 5.0), MOST)
        new = min(max(new, LEAST), MOST)
        for k, time in enumerate(TIMES):
            passed, blocked = self._answers[k]
            gain = passed * math.log(new / usual) + blocked * math.log((1.0 - new) / (1.0 - usual))
            if gain > (KEEP_EVIDENCE if time == self.seconds else EVIDENCE):
                self.seconds = time
                explained, self._blamed[k] = self._blamed[k], []
                return explained
        self.seconds = math.inf
        return []

    def dump(self) -> dict[str, Any]:
        """Return what was learnt, as plain JSON."""
        return {"after": [row[:] for row in self._answers], "others": self._others}

    def load(self, state: Any, pages: int, new: float) -> None:
        """Take back a `dump`; what does not fit is ignored."""
        after = state.get("after") if isinstance(state, dict) else None
        if not isinstance(after, list) or len(after) != len(TIMES):
            return
        answers, others = [odds(row) for row in after], number(state.get("others"))
        if others is not None and None not in answers:
            self._answers = [row for row in answers if row is not None]
            self._others = others
            self._weigh(pages, new)

    def explain(self) -> str:
        """Say in a sentence how long a session keeps its exit, if that is known."""
        if self.seconds == math.inf:
            return ""
        return f"The gateway gives a session another exit after {self.seconds:.0f} s."
