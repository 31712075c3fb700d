"""How often to try where nothing works at all.

No one can know whether the sessions are banned for a minute or for good: so tries become rarer the
longer there was no success. One per slot goes out at once, and K ln(1 + t/T) more in t seconds:
enough to find a few good sessions among hundreds at once, few enough that no page uses up its
attempts on a ban that lasts. As in ski rental, an end of the drought is noticed after a share of it.
"""

from __future__ import annotations

import math

PER_SLOT, PER_CHANCE = 2.0, 3.0
"""K: tries per concurrent request, at least so many times those that a success used to take."""
FIRST_CHANCE = 0.03
"""Chance of success that is taken for usual at first: of long lists often that few work."""
SPAN = 1.0
"""T: seconds."""
REST = 0.5
"""Share of the drought that a session rests between two tries: each twice as long as the one before."""
LONGEST = 600.0
"""Seconds between two tries, at most."""


class Drought:
    """The time since the last success, and what was tried in it.

    ``concurrency``: the crawl's requests at once.
    """

    def __init__(self, concurrency: int) -> None:
        self._at_once = concurrency
        self._least = PER_SLOT * concurrency
        self.expect(FIRST_CHANCE)
        self._since: float | None = None
        self._tries = 0
        self._last = -math.inf

    def passed(self, now: float, chance: float) -> None:
        """Note a success; ``chance`` is that of a new session by now."""
        self._since = now
        self._tries = 0
        if chance != self._chance:
            self.expect(chance)

    def expect(self, chance: float) -> None:
        """Take a chance of success as usual: rare successes are no drought yet."""
        self._chance = chance
        self._scale = max(self._least, PER_CHANCE / chance)

    def tried(self, now: float) -> None:
        """Note that a request goes out although nothing works."""
        self._tries += 1
        self._last = now

    def untried(self) -> None:
        """Take a try back that did not come to the site."""
        self._tries = max(0, self._tries - 1)

    def wait(self, now: float) -> float:
        """Return the seconds until the next try; 0: now."""
        if self._since is None:
            self._since = now
        folds = max(0, self._tries - self._at_once) / self._scale
        due = self._since + SPAN * math.expm1(min(folds, 50.0))
        return max(0.0, min(due, self._last + LONGEST) - now)

    def rest(self, now: float) -> float:
        """Return the seconds that a session must have rested: each request may begin its ban anew."""
        return 0.0 if self._since is None else REST * (now - self._since)

    def explain(self, now: float) -> str:
        """Say for how long nothing has worked; empty where that was not tried yet."""
        if self._since is None or not self._tries:
            return ""
        return (
            f"Nothing has worked for {now - self._since:.0f} s and {self._tries} tries; "
            f"the next goes out in {self.wait(now):.0f} s."
        )
