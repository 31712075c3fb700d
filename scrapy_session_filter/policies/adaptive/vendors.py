"""What sites behind the same anti-bot vendor tell each other.

A vendor's customers block alike, but set limits of their own. So what one site has learnt is a hint to
the others: the odds of new sessions and of rested ones are worth a few answers there, and a limit is
as likely as if two sessions had been blocked at it. A site's own answers soon outweigh that. Which
vendor guards a site, its blocks say (`Verdict.vendor`); where they do not, nothing is taken over.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scrapy_session_filter.policies.adaptive.ladder import RUNGS, read_odds
from scrapy_session_filter.policies.adaptive.saved import count, odds

if TYPE_CHECKING:
    from scrapy_session_filter.policies.adaptive.fresh import Fresh
    from scrapy_session_filter.policies.adaptive.ladder import Ladder
    from scrapy_session_filter.policies.adaptive.limit import Limit

ANSWERS = 4.0
"""What the odds of a vendor's other sites are worth, in answers."""
BLOCKS = 2.0
"""What a limit of another site is worth, in blocked sessions."""
HEARD = 8
"""Sites of a vendor that are heard: the last ones that were seen to be guarded by it."""
ASK_AGAIN = 16
"""Blocks until the others are asked again: most sites of a crawl begin at the same time."""
NAMES, LONGEST_NAME = 8, 40
"""Vendors that are counted per site, and the letters of a name."""


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """What a site teaches: what it goes on learning with itself, but no sessions."""

    fresh: list[float]
    rungs: list[list[list[float]]]
    limit: Limit


Lessons = dict[str, dict[str, Lesson]]
"""What the sites of a crawl teach, by vendor and site, the last to come last."""


class Vendor:
    """The vendor of one site's blocks, and what was taken over from its other sites.

    ``lessons`` is the same for all sites of a crawl. A ``site`` that is unloaded goes on teaching, but
    not itself when it is loaded again.
    """

    def __init__(
        self, lessons: Lessons, site: str, fresh: Fresh, ladder: Ladder, limit: Limit
    ) -> None:
        self.name = ""  #: the one that blocked most often; empty: none was named
        self._lessons, self._site = lessons, site
        self._fresh, self._ladder, self._limit = fresh, ladder, limit
        self._own = Lesson(fresh.odds, ladder.odds, limit)
        self._blocks: dict[str, int] = {}
        self._ask = 0  # blocks until the others are asked again
        self._sites = 0  # of which something was taken over
        self._hint: tuple[float, float] | None = None  # requests, and the window in seconds

    def blocked(self, name: str) -> None:
        """Take in a block by this vendor."""
        if name not in self._blocks and (len(self._blocks) >= NAMES or not _is_name(name)):
            return
        self._blocks[name] = self._blocks.get(name, 0) + 1
        if not self.name or self._blocks[name] > self._blocks[self.name]:
            self._found(name)
        if self._ask <= 0:
            self._ask = ASK_AGAIN
            self._take_over()
        self._ask -= 1

    def _found(self, name: str) -> None:
        self.name = name
        self._ask = 0
        lessons = self._lessons.setdefault(name, {})
        if lessons.get(self._site) is not self._own:
            lessons.pop(self._site, None)
            lessons[self._site] = self._own
        if len(lessons) > HEARD:
            del lessons[next(iter(lessons))]

    def _take_over(self) -> None:
        lessons = self._lessons[self.name]
        others = [lesson for site, lesson in lessons.items() if site != self._site]
        if not others:
            return
        self._sites = len(others)
        self._fresh.expect(_pooled([lesson.fresh for lesson in others]))
        self._ladder.expect(
            [
                [
                    _pooled([lesson.rungs[worked][rung] for lesson in others])
                    for rung in range(RUNGS)
                ]
                for worked in (False, True)
            ]
        )
        limits = [
            lesson.limit
            for lesson in others
            if lesson.limit.depends and lesson.limit.cap < math.inf
        ]
        if 2 * len(limits) >= len(others):  # else it is the exception
            widest = max(limits, key=lambda limit: limit.cap / limit.window)
            if self._limit.expect(widest, BLOCKS):
                self._hint = (widest.cap, widest.window)

    def dump(self) -> dict[str, Any]:
        """Return the vendor, and what was taken over, as plain JSON; empty where none is known."""
        if not self.name:
            return {}
        return {
            "blocks": self._blocks,
            "sites": self._sites,
            "fresh": self._fresh.expected,
            "rungs": self._ladder.expected,
            "hint": self._hint,
        }

    def load(self, state: Any) -> None:
        """Take back a `dump`, after that of the other parts; what does not fit is ignored."""
        blocks = state.get("blocks") if isinstance(state, dict) else None
        if not isinstance(blocks, dict) or len(blocks) > NAMES:
            return
        self._blocks = {
            name: number for name, number in blocks.items() if _is_name(name) and count(number)
        }
        if not self._blocks:
            return
        self._found(max(self._blocks, key=self._blocks.__getitem__))
        self._sites = count(state.get("sites")) or 0
        self._fresh.expect(_pooled([odds(state.get("fresh")) or [0.0, 0.0]]))
        rungs = read_odds(state.get("rungs"))
        self._ladder.expect([[_pooled([pair]) for pair in of] for of in rungs])
        hint = odds(state.get("hint"))
        self._hint = (hint[0], hint[1]) if hint else None

    def explain(self) -> str:
        """Say whose blocks they are, and what was taken over; empty where no vendor is known."""
        if not self.name:
            return ""
        told = f"Its blocks name {self.name}"
        if not self._sites:
            return f"{told}."
        taken = ["the odds of rested sessions"]
        if sum(self._fresh.expected):
            chance = self._fresh.expected[0] / sum(self._fresh.expected)
            taken.insert(0, f"a chance of {100 * chance:.0f} % for new ones")
        if self._hint:
            taken.append("a limit of {:.0f} requests per {:.0f} s".format(*self._hint))
        others = f"{self._sites} other site{'s' * (self._sites > 1)}"
        return f"{told}; from {others} behind it, as a hint, it took over {', '.join(taken)}."


def _pooled(sites: list[list[float]]) -> list[float]:
    """Return the odds of several sites, of which each counts alike, as `ANSWERS` at most."""
    good = bad = 0.0
    for site in sites:
        weight = min(1.0, ANSWERS / max(sum(site), 1e-9))
        good, bad = good + weight * site[0], bad + weight * site[1]
    weight = min(1.0, ANSWERS / max(good + bad, 1e-9))
    return [round(weight * good, 3), round(weight * bad, 3)]


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= LONGEST_NAME and value.isprintable()
