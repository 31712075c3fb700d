"""What exploring may cost, and what a ban costs.

Exploration is paid with losses that scarcity has already caused: every wait, and the risk and
crowding of every pick, earn tokens (failed requests); an exploration costs one and returns it, all
but a little, if it succeeds. As in ski rental, that costs about twice the best fixed size of the
pool at most. There is no share of exploration to set: the pool grows until growing no longer pays.
"""

from __future__ import annotations

from typing import Any

from scrapy_session_filter.policies.adaptive.saved import count, number

CROWDING = 0.05
"""Tokens for each request already in flight on the picked session: it slows them down."""
FULL = 2.0
"""The budget's bound, in tokens per concurrent request."""
RICH = 0.5
"""Share of the bound from which on bans are risked to learn more of the limit."""
FIRST_OUTAGE = 120.0
"""Seconds that a ban is assumed to last before one was seen to end."""
WORTH = 0.2
"""Pages that an exploration must be expected to yield; bans then cost more than they find."""


class Budget:
    """The tokens of one site, and how long its bans last.

    ``concurrency``: the crawl's requests at once.
    """

    def __init__(self, concurrency: int) -> None:
        self.tokens = 1.0
        self.nerve = 1.0  #: tokens that exploring does not spend, but only bans that were risked
        self._most = FULL * concurrency
        self.pages = 0  #: fetched so far
        self.stints = 0  #: how often a session came to work
        self.out = 0  #: sessions that worked and are blocked now
        self._out_at = 0.0
        self._out_total = 0.0  # session-seconds
        self._back = 0  # how many came back

    def earn(self, tokens: float) -> None:
        """Take in what scarcity has cost."""
        most, total, nerve = self._most, self.tokens + tokens, self.nerve + tokens
        self.tokens = total if total < most else most  # noqa: FURB136 - at every pick; min() is dear
        self.nerve = nerve if nerve < most else most  # noqa: FURB136

    def price(self, chance: float) -> float:
        """Return the tokens that an exploration of this chance costs.

        One, or more where it is expected to yield less than `WORTH` pages: so what hardly pays is
        done rarely, but odds that may have changed are tried again one day.
        """
        pages = chance * (self.pages / (self.stints + 1) + 1.0)
        return 1.0 if pages >= WORTH else min(WORTH / max(pages, 1e-9), self._most)

    @property
    def dares(self) -> bool:
        """Whether scarcity has cost so much that even a ban may be risked to end it.

        What is explored meanwhile must not use that up: under a cap that is too low by far, there may
        never be enough sessions, and all of them may be waiting for a window that is long over.
        """
        return self.nerve >= RICH * self._most

    def lose(self, tokens: float) -> None:
        """Pay for a ban that was risked; it has to be earned anew before the next is."""
        self.tokens = max(self.tokens - tokens, -self._most)
        self.nerve = min(self.nerve, 0.0) - tokens

    def went_out(self, now: float) -> None:
        """Note that a working session was blocked."""
        self._count_out(now, 1)

    def came_back(self, now: float, lasted: bool) -> None:
        """Note that it works again; ``lasted`` is false for a block that was gone at once."""
        self._count_out(now, -1)
        self._back += lasted

    def left(self) -> None:
        """Note that a blocked session has left the pool: it will not come back."""
        self.out = max(0, self.out - 1)

    @property
    def outage(self) -> float:
        """Return how many seconds a ban lasts, by what was seen so far."""
        return (self._out_total + FIRST_OUTAGE) / (self._back + 1.0)

    def _count_out(self, now: float, change: int) -> None:
        self._out_total += self.out * max(0.0, now - self._out_at)
        self._out_at = now
        self.out = max(0, self.out + change)

    def dump(self) -> dict[str, float]:
        """Return what a restart should know, as plain JSON."""
        return {
            "tokens": round(self.tokens, 3),
            "nerve": round(self.nerve, 3),
            "pages": self.pages,
            "stints": self.stints,
            "out": round(self._out_total, 1),
            "back": self._back,
        }

    def load(self, state: Any) -> None:
        """Take back a `dump`; what does not fit is ignored."""
        if not isinstance(state, dict):
            return
        tokens, nerve = (number(state.get(name), -1e6, 1e6) for name in ("tokens", "nerve"))
        pages, stints, back = (count(state.get(name)) for name in ("pages", "stints", "back"))
        out = number(state.get("out"), 0.0, 1e15)
        if tokens is None or pages is None or stints is None or back is None or out is None:
            return
        self.tokens = max(-self._most, min(tokens, self._most))
        if nerve is not None:
            self.nerve = min(nerve, self._most)
        self.pages, self.stints = pages, stints
        self._out_total, self._back = out, back
