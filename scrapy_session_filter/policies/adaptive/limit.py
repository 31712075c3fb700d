"""How hard one session of this site may be used.

`Limit.cap` is the intensity that no pick should exceed, on the scale `Limit.scale`; infinite until
there is evidence that blocks depend on intensity. A block there lowers it, time without raises it:
quickly where nothing was met, ever more slowly near an edge that was met again and again.

Whether or not a limit is known, only a few requests at once (scouts) go beyond the intensity known
to be safe, so that not all sessions of a small list run into a limit together.

Where a shorter window explains the blocks as well, it is tried (`trials`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from scrapy_session_filter.policies.adaptive.hazard import HazardTable
from scrapy_session_filter.policies.adaptive.intensity import FIRST, USUAL, WINDOWS, level_of
from scrapy_session_filter.policies.adaptive.review import Review
from scrapy_session_filter.policies.adaptive.saved import count, number
from scrapy_session_filter.policies.adaptive.trials import UNDER, Trials

if TYPE_CHECKING:
    from scrapy_session_filter.policies.adaptive.intensity import Levels

EVIDENCE, KEEP_EVIDENCE = 6.0, 4.5
"""Nats: from where on blocks are said to depend on intensity, and down to where it stays said. 4
instead of 6 costs .005 on average: exogenous bans are then taken for limits."""
USUAL_BONUS, STAY_BONUS, HINT_BONUS = 1.0, 5.0, 3.0
"""Nats in favour of one minute, of the scale in use, and of the one that a Retry-After names."""
BELOW = 0.85
"""The cap after a block, relative to the intensity that was blocked."""
SCOUTS = 4
"""Requests at once beyond the safe intensity; one in eight sessions, where a list is used up."""
AROUND = 1.6
"""Within this factor of a limit that other sites have, scouts go one by one."""
FIRST_SAFE = 4.0
"""Uses per window that are taken for safe at first."""
SAFE_STEP, SAFE_HITS = 1.25, 3
"""So many successes near the safe intensity raise it by this factor; once there is a cap, no higher than
where they were: it may be where all sessions are next."""
SHORTEST_STEP, LONGEST_STEP = 5.0, 60.0
"""Seconds between two raises of the cap: the shorter at first, doubled each time that the same edge
is met, up to half a window or the longer. As scouts go first, an early try costs few sessions."""
LET_GO = 1.5
"""A cap without evidence that has grown so far over its edge is none: the edge was background."""
LEAST_CAP = 1.7
"""The lowest cap: one use per window, and what is left of another."""
RIVAL = 4.0
"""Nats by which a shorter window may explain the blocks worse and still be tried; as much again for
each window in which no block has lowered the cap: under it, nothing else would ever tell."""
WATCHED = 1.5
"""Windows for which a site must have been watched before that scale can be told from "ever"."""


class _Cut(NamedTuple):
    """What the cap was before a block lowered it."""

    levels: Levels
    scale: int
    cap: float
    edge: float
    met: int


class Limit:
    """The learnt limit of one site."""

    def __init__(self) -> None:
        self.table = HazardTable()
        self.scale = USUAL
        self.window = WINDOWS[USUAL]  #: seconds
        self.cap = math.inf
        self.edge = 0.0  #: intensity of the last block that lowered the cap
        self.met = 0  #: how often in a row it was met near there
        self.depends = False  #: whether blocks depend on intensity
        self.gain = 0.0  #: nats in favour of that
        self.patience = 0.0  #: seconds between two raises at least, once a limit is known
        self.safe = FIRST_SAFE
        self.scouting = 0  #: requests in flight beyond `safe`
        self._hits = 0
        self._fits = 0
        self._cut_at = self._moved_at = -math.inf  # when a block, or anything, last moved the cap
        self._last_cut: _Cut | None = None
        self._review = Review()
        self._hint = -1
        self._since: float | None = None  # when it began to watch
        self.trials = Trials()  #: of a shorter window that may be the true one
        self._met_at: Levels = FIRST  # the intensities of the block that made the cap

    def scouts_left(self, sessions: int, scarce: bool) -> bool:
        """Return whether another request may go beyond the safe intensity."""
        most = max(1, min(SCOUTS, sessions // 8)) if scarce else SCOUTS
        if self.cap == math.inf and self.edge < AROUND * self.safe < AROUND**2 * self.edge:
            most = 1  # where other sites have their limit
        return self.scouting < most

    def trial_passed(self, levels: Levels, now: float) -> None:
        """Learn from a request that tried a shorter window with success, after `passed`."""
        tried = self.trials.scale
        if tried >= 0 and levels[self.scale] > self.edge and self.trials.passed():
            self._switch(tried, self.trials.edge)
            self._weigh(now)

    def trial_blocked(self, levels: Levels, now: float) -> None:
        """Learn from a block of a request that tried a shorter window."""
        self.table.blocked(levels)
        self.trials.blocked(now)
        self._weigh(now)
        self.table.fit(self.scale)

    def passed(self, levels: Levels, now: float, sent: float = math.inf) -> None:
        """Learn from a success of a working session; ``sent``: when the request was, infinite: now."""
        if self.table.passed(levels):
            self._fits += 1
            if not self._fits % 4:
                self._weigh(now)
            self.table.fit(self.scale)
        level = levels[self.scale]
        capped = self.cap < math.inf
        if level > (1.0 if capped else 0.9) * self.safe and sent > self._cut_at:
            self._hits += 1
            if self._hits >= SAFE_HITS:
                most = self.safe * SAFE_STEP
                self.safe = min(most, level) if capped else most
                self._hits = 0
        if level <= 0.8 * self.cap:
            return
        steps = 2 if self._moved_at == self._cut_at else 1  # a block was the last to move it
        if now > self._moved_at + steps * self._step:
            near = self._is_known and 0.7 * self.edge < self.cap < 1.2 * self.edge
            if near:
                self.safe = min(self.safe, self.cap)  # beyond the old cap, scouts go first
            raised = self.cap * (1.0 + 0.1 / 2.0**self.met if near else 1.5)
            if self.is_told or not self.table.is_wall(self.scale, raised):
                gone = not self._is_known and raised > LET_GO * self.edge
                self.cap = math.inf if gone else raised
            self._moved_at = now

    def blocked(
        self,
        levels: Levels,
        now: float,
        *,
        retry_after: float | None = None,
        outage: float = 0.0,
    ) -> None:
        """Learn from a working session's block.

        ``retry_after``: the site says itself that it was too fast, and for how long: no test is
        needed, and the scale is likely the nearest to it. ``outage``: seconds for which the session
        will be missing; 0: not known.
        """
        self.table.blocked(levels)
        if retry_after is not None:
            self._hint = min(
                range(len(WINDOWS)), key=lambda k: abs(math.log(WINDOWS[k] / max(retry_after, 1.0)))
            )
        self._weigh(now)
        self.table.fit(self.scale)
        level = levels[self.scale]
        if level > 0.7 * self.safe:
            self.safe = max(0.8 * level, 2.0)
            self._hits = 0
        told = retry_after is not None
        if not (told or self.depends) or now <= self._cut_at + 0.5 * SHORTEST_STEP:
            return
        if (
            level > 1.5
            and (self.cap == math.inf or 0.6 * self.cap < level)
            and (told or self.table.is_local(self.scale, level))
        ):
            self._cut(levels, level, now)
            self._weigh(now)  # now that there is a cap, shorter windows may be tried
        elif self.cap < math.inf and not told and outage:
            self._look_again(levels, now, outage)

    def expect(self, other: Limit, blocks: float) -> bool:
        """Take another site's limit for likely, as if so many sessions had been blocked at it here.

        It makes no cap. But near it scouts go one by one; the first own block makes a cap, and if it
        is near, that edge has been met as often as elsewhere. Return whether it did that: not where
        there is evidence of its own.
        """
        edge = other._met_at[self.scale]
        if self._is_known or self.cap < math.inf or self.safe > AROUND * edge:
            return False
        self.table.expect(other.table, blocks)
        self.edge, self.met = edge, other.met
        return True

    def _cut(self, levels: Levels, level: float, now: float) -> None:
        self._last_cut = _Cut(levels, self.scale, self.cap, self.edge, self.met)
        self.met = self.met + 1 if 0.7 * self.edge < level < 1.3 * self.edge else 0
        self.edge, self._met_at = level, levels
        least = 0.7 * self.cap if self.cap < math.inf else 0.0
        self.cap = max(min(self.cap, BELOW * level), least, LEAST_CAP)
        self._cut_at = self._moved_at = now

    def _look_again(self, levels: Levels, now: float, outage: float) -> None:
        """Lower the cap if it is too high for what its bans cost."""
        cap = self._review.lower(self.table, self.scale, self.window, self.cap, outage)
        if cap < self.cap:
            self.cap, self.edge = max(cap, LEAST_CAP), cap / BELOW
            self._met_at, self._last_cut = levels, None
            self._cut_at = self._moved_at = now

    def cleared(self, levels: Levels, now: float) -> None:
        """Take a block back that was gone at once, and what it did to the cap."""
        self.table.cleared(levels)
        cut = self._last_cut
        if cut is not None and cut.levels is levels and cut.scale == self.scale:
            self.cap, self.edge, self.met = cut.cap, cut.edge, cut.met
            self._last_cut = None
        self._weigh(now)
        self.table.fit(self.scale)

    @property
    def is_told(self) -> bool:
        """Whether the site said itself that it was too fast, and for how long to rest."""
        return self._hint >= 0

    @property
    def _is_known(self) -> bool:
        """Whether there is a limit; else the edge was background after all."""
        return self.depends or self.is_told

    @property
    def _step(self) -> float:
        if not self._is_known:
            return SHORTEST_STEP  # let the cap go
        slowest = min(max(self.window / 2.0, 3.0 * SHORTEST_STEP), LONGEST_STEP)
        return max(min(SHORTEST_STEP * 2.0 ** min(self.met, 16), slowest), self.patience)

    def _weigh(self, now: float) -> None:
        """Choose the scale that explains the blocks best, and say whether it explains them."""
        if self._since is None:
            self._since = now
        watched = now - self._since
        splits = [self.table.split(scale) for scale in range(len(WINDOWS))]
        self.gain = splits[self.scale][0]
        best, best_scale = 0.0, self.scale
        for scale, (gain, _) in enumerate(splits):
            window = WINDOWS[scale]
            if window > max(self.window, WINDOWS[USUAL]) and watched < WATCHED * window:
                continue
            if window < self.window and watched < window:
                continue  # so far, all uses lie in both
            total = gain + self._bonus(scale)
            if total > best:
                best, best_scale = total, scale
        if best_scale != self.scale and best > EVIDENCE:
            self._switch(best_scale, level_of(splits[best_scale][1]))
        self.depends = self.gain > (KEEP_EVIDENCE if self.depends else EVIDENCE)
        kept = now - max(self._since, self._cut_at)
        self._choose_trial(splits, RIVAL * (1.0 + max(0.0, kept) / self.window))

    def _bonus(self, scale: int) -> float:
        """Return the nats in favour of a scale before any evidence."""
        bonus = USUAL_BONUS * (scale == USUAL) + HINT_BONUS * (scale == self._hint)
        return bonus + STAY_BONUS * (scale == self.scale)

    def _choose_trial(self, splits: list[tuple[float, int]], rival: float = RIVAL) -> None:
        rivals = [
            (WINDOWS[scale], -gain, -scale)
            for scale, (gain, _) in enumerate(splits)
            if WINDOWS[scale] < self.window and gain > self.gain - rival
        ]
        if rivals and self.cap < math.inf:
            scale = -min(rivals)[2]
            self.trials.aim(scale, self._edge_on(scale, splits[scale][1]))
        else:
            self.trials.aim(-1)

    def _edge_on(self, scale: int, at: int) -> float:
        """Return the edge on a shorter scale: at the bin that separates blocks from passes best there.

        No higher than the last block that lowered the cap, except where its session was idle on that
        scale: then it came anyway, or by a longer one.
        """
        edge, blocked = level_of(at), BELOW / UNDER * self._met_at[scale]
        return min(edge, blocked) if blocked > LEAST_CAP / UNDER else edge

    def _switch(self, scale: int, edge: float) -> None:
        self.scale, self.window = scale, WINDOWS[scale]
        self.gain = self.table.split(scale)[0]
        self.edge, self.met = 1.1 * edge, 0
        self.cap = max(UNDER * edge, LEAST_CAP)
        self.safe, self._hits = max(0.8 * edge, 2.0), 0
        self._last_cut = None

    def dump(self) -> dict[str, Any]:
        """Return what was learnt, as plain JSON."""
        return {
            "table": self.table.dump(),
            "scale": self.scale,
            "cap": None if self.cap == math.inf else round(self.cap, 3),
            "edge": round(self.edge, 3),
            "met": self.met,
            "safe": round(self.safe, 3),
            "hint": self._hint,
            "depends": self.depends,
            "met_at": [round(level, 3) for level in self._met_at],
        }

    def load(self, state: Any) -> None:
        """Take back a `dump`; what does not fit is ignored."""
        if not isinstance(state, dict):
            return
        self.table.load(state.get("table"))
        scale = count(state.get("scale"), len(WINDOWS) - 1)
        if scale is not None:
            self.scale, self.window = scale, WINDOWS[scale]
            self.cap = number(state.get("cap"), LEAST_CAP) or math.inf
            self.edge = number(state.get("edge")) or 0.0
            self.met = count(state.get("met"), 64) or 0
            self.safe = number(state.get("safe"), 2.0) or FIRST_SAFE
            met_at = state.get("met_at")
            if isinstance(met_at, list) and len(met_at) == len(WINDOWS):
                self._met_at = tuple(number(level, 1.0) or 1.0 for level in met_at)
            hint = count(state.get("hint"), len(WINDOWS) - 1)
            self._hint = -1 if hint is None else hint
        self.gain = self.table.split(self.scale)[0]
        self.depends = self.gain > (KEEP_EVIDENCE if state.get("depends") is True else EVIDENCE)
        self.table.fit(self.scale)
        self._choose_trial([self.table.split(scale) for scale in range(len(WINDOWS))])

    def explain(self, who: str = "A session") -> str:
        """Say in a sentence what is known of the limit, and how sure."""
        if self.cap == math.inf:
            return f"No limit is known; {self.safe:.0f} requests per {self.window:.0f} s are safe."
        sure = "surely" if self.gain > 2 * EVIDENCE else "probably" if self.depends else "perhaps"
        return (
            f"{who} may {sure} send {self.cap:.0f} requests per {self.window:.0f} s "
            f"(blocked at {self.edge:.0f}, met {self.met + 1} times there; "
            f"evidence {self.gain:.1f} nats)."
        )
