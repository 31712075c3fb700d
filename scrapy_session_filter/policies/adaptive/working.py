"""Which of the working sessions takes the next request.

Power of d choices with memory (Mitzenmacher, Prabhakar, Shah, *Load balancing with memory*, FOCS
2002): look at a few random ones and at the best of those seen last time, and take the most
valuable. That is nearly as good as a sorted list, and O(1). The look ends at the first one that is as
valuable as what was chosen of late: of like sessions any will do. A session's value is the chance
that it succeeds, less the risk at its intensity, per cost of a request, half of which is time.
"""

from __future__ import annotations

import math
from itertools import chain
from math import floor
from typing import TYPE_CHECKING

from scrapy_session_filter.policies.adaptive.intensity import BIN_AT, DECAYING, STEPS, bin_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

    from scrapy_session_filter.policies.adaptive.fresh import Fresh, Pause
    from scrapy_session_filter.policies.adaptive.limit import Limit
    from scrapy_session_filter.policies.adaptive.record import Record
    from scrapy_session_filter.policies.base import Ask

_DECAYING = len(DECAYING)  # index of the first scale that does not
LOOK = 8
"""Sessions looked at per pick at most: more than `ELITE_LOOK`, or none outside of the elite is ever
found. 16 gains nothing."""
ELITE_LOOK = 4
"""How many of them are of the elite."""
SPARE = 1.5
"""Size of the elite under a limit, relative to what the whole crawl needs at that limit."""
LEAD, FOLLOWERS = 2.0, 3
"""One session of a short list gets so many times the others' share of requests on top of its own: it
meets an unknown limit while they are a third of the way there, and they need not be banned to learn
of it. Not where fewer would be spared."""
SHARING = 0.1
"""By how much each request in flight slows the others of the session down."""
SPREADING = 0.25
"""Value lost at the cap: near a limit, the load is spread."""
MEAN_STEP = 0.005
"""Step of the moving average of the working sessions' success."""
LATENCY_STEP = 0.02
"""Step of the moving average of the seconds that a success takes."""
USUAL_STEP = 0.05
"""Step of the moving average of the chosen sessions' value; one of that value needs no rival."""


class Choice:
    """What a look at the working sessions gave.

    ``record`` is the best, None where none may be used now; then ``wait`` is in how many seconds
    one may, and ``over`` the one that is least over the cap (at intensity ``level``). ``trial``: the
    best is over the cap too, and tries whether the site counts over a shorter window.
    """

    record: Record | None = None
    value = 0.0
    risk = 0.0
    over: Record | None = None
    trial = False
    level = 0.0
    wait = math.inf


class WorkingSet:
    """The sessions that work, and what is known of them as a whole."""

    def __init__(self, rng: Random, concurrency: int) -> None:
        self._rng = rng
        self._slots = max(concurrency, ELITE_LOOK)
        self.members: list[Record] = []  #: those that can take a request
        self._elite: list[Record] = []
        self._usual = math.inf  # value of a chosen session; infinite until there was one
        self._others_first = False
        self._leader: Record | None = None
        self.total = 0  #: also those that cannot take a request for now
        self.mean = 0.8  #: chance of success of a working session
        self.latency = 0.0  #: seconds of a success; 0 until there was one

    def __len__(self) -> int:
        return len(self.members)

    def enter(self, record: Record) -> None:
        """Take in a session; it is a candidate while it is ready."""
        if not record.working:
            record.working = True
            self.total += 1
        if record.place < 0 and record.session.ready:
            record.place = len(self.members)
            self.members.append(record)

    def pause(self, record: Record) -> None:
        """Let a session out that cannot take requests for now."""
        if record.place >= 0:
            last = self.members.pop()
            if last is not record:
                self.members[record.place] = last
                last.place = record.place
            record.place = -1

    def leave(self, record: Record) -> None:
        """Let a session out that no longer works."""
        self.pause(record)
        if record.working:
            record.working = False
            self.total -= 1

    def learn(self, ok: bool) -> None:
        """Take in an answer to a working session."""
        self.mean += MEAN_STEP * (ok - self.mean)

    def passed_in(self, latency: float) -> None:
        """Take in the latency of a success."""
        step = LATENCY_STEP if self.latency else 1.0
        self.latency += step * (latency - self.latency)

    def _look(self, few: bool) -> Iterator[Record]:
        """Yield some of the elite, which is that of those looked at so far, and some others.

        By turns the ones or the others come first, as the look may end with the first.
        """
        members, n = self.members, len(self.members)
        if n <= LOOK:
            yield from members
            return
        rnd = self._rng.random
        elite = self._elite
        left = LOOK
        self._others_first = not self._others_first
        if self._others_first:
            left = ELITE_LOOK
            for _ in range(LOOK - ELITE_LOOK):
                yield members[floor(rnd() * n)]
        if not few:
            for _ in range(min(ELITE_LOOK, len(elite))):
                at = floor(rnd() * len(elite))
                record = elite[at]
                if record.place >= 0:
                    left -= 1
                    yield record
                    continue
                last = elite.pop()  # it left, or cannot take requests for now
                if last is not record:
                    elite[at] = last
                record.elite = False
                if not elite:
                    break
        for _ in range(left):
            yield members[floor(rnd() * n)]

    def _ahead(self, ask: Ask, limit: Limit) -> Record | None:
        """Return the session that goes ahead of the others of a short list, if it is its turn.

        It goes no further than the cap, or than the whole crawl would drive them all.
        """
        members, latency = self.members, self.latency
        if len(members) <= FOLLOWERS or not latency:
            return None
        leader = self._leader
        if leader is None or leader.place < 0:
            leader = max(
                self._look(few=True),
                key=lambda each: each.meter.level(limit.scale, ask.now) if each.meter else 0.0,
            )
            self._leader = leader
        if self._rng.random() * len(members) > LEAD or leader.meter is None:
            return None
        session = leader.session
        if session.in_flight > leader.good or session.id in ask.avoid:
            return None
        most = min(limit.cap, self._slots / latency * limit.window / len(members))
        return leader if leader.meter.level(limit.scale, ask.now) <= most else None

    def _promote(self, best: Record, worst: Record | None, paced: float) -> None:
        """Let the best outsider into the elite, in place of the worst there if it is full.

        It has room for a session per slot, or for as many as it takes where two requests of one are
        ``paced`` seconds apart.
        """
        elite, room = self._elite, float(self._slots)
        if paced and self.latency:
            room *= max(1.0, SPARE * paced / self.latency)
        if len(elite) < room:
            elite.append(best)
        elif worst is not None:
            worst.elite = False
            elite[elite.index(worst)] = best
        else:
            return
        best.elite = True

    def choose(  # noqa: C901, PLR0912, PLR0915, PLR0917 - one pass over eight sessions, on the hot path
        self,
        ask: Ask,
        limit: Limit,
        cap: float,
        fresh: Fresh,
        scouts: bool,
        trials: bool,
        few: bool,
        pause: Pause | None = None,
    ) -> Choice:
        """Return the best session to use now.

        ``cap``: the intensity that none may exceed; infinite where the limit is not to be kept.
        ``scouts``: whether it may go beyond the safe intensity. ``trials``: whether, with none under
        the cap, one may try a shorter window. ``few``: the list is short and used
        up; then the elite is not preferred, so that the load spreads. ``pause``: for how many seconds
        a subnet must not be used.
        """
        choice = Choice()
        now, avoid = ask.now, ask.avoid
        scale, safe = limit.scale, limit.safe
        table_risk = limit.table.risk
        latency = self.latency or 1.0
        # one that worked is no worse than a new one
        prior = 2.0 * max(self.mean, fresh.chance)
        half, slow = 0.5 / latency, 2.0 * latency
        exp, inf = math.exp, math.inf
        window = limit.window
        decays = scale < _DECAYING
        chosen, chosen_value, chosen_risk = None, 0.0, 0.0
        best_value, best, worst_value, worst = 0.0, None, inf, None
        trial, trial_cap = (limit.trials.scale if trials else -1), limit.trials.cap
        tried, tried_level = None, 0.0
        many = len(self.members) > LOOK
        ranks = many and not few  # the best comes into the elite
        enough = self._usual if many else inf
        looked = self._look(few)
        leader = self._ahead(ask, limit) if few else None
        if leader is not None:
            looked, enough = chain((leader,), looked), 0.0
        for record in looked:
            session = record.session
            in_flight = session.in_flight
            if in_flight > record.good or (avoid and session.id in avoid):
                continue  # slow start: no more in flight than ever succeeded, and one
            if pause is not None and (held := pause(record.group, now)) > 0:
                choice.wait = min(choice.wait, held)
                continue
            meter = record.meter
            if meter is None:
                level = 1.0
            elif decays:  # as `Meter.level` has it
                level = 1.0 + meter.state[scale] * exp((meter.last - now) / window)
            else:
                level = meter.level(scale, now)
            if level > cap and meter is not None:
                wait = meter.wait(scale, now, cap)
                if wait < choice.wait:
                    choice.wait, choice.over, choice.level = wait, record, level
                if trial >= 0 and level > tried_level and meter.level(trial, now) <= trial_cap:
                    tried, tried_level = record, level  # the farthest over the cap tells most
                continue
            if level > safe and not scouts and record is not leader:
                choice.wait = min(choice.wait, 0.2)
                continue
            risk = table_risk[BIN_AT[floor(level * STEPS)] if level < STEPS else bin_of(level)]
            good = record.good
            value = (good + prior) / (good + record.bad + 2.0) * (1.0 - 0.9 * risk)
            if cap < inf:
                value *= 1.0 - SPREADING * (level / cap) ** 2
            time = half * ((record.latency + slow) / (record.weight + 2.0))
            if ranks:
                lasting = value / (0.5 + time)
                if record.elite:
                    if lasting < worst_value:
                        worst_value, worst = lasting, record
                elif lasting > best_value:
                    best_value, best = lasting, record
            if in_flight:
                time *= 1.0 + SHARING * in_flight
            value /= 0.5 + time
            if value > chosen_value:
                chosen, chosen_value, chosen_risk = record, value, risk
                if value >= enough:
                    break
        if chosen is None and tried is not None:
            chosen, choice.trial = tried, True
        if chosen is not None:
            choice.record, choice.value, choice.risk = chosen, chosen_value, chosen_risk
            change = chosen_value - self._usual
            self._usual = chosen_value if change == -inf else self._usual + USUAL_STEP * change
        if best is not None:
            self._promote(best, worst if worst_value < best_value else None, window / cap)
        return choice
