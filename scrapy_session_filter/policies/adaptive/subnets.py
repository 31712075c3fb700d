"""What the sessions of a subnet share: a ban, and the intensity that led to it.

Some sites ban a /24 (IPv6: a /48) as one. Whether this one does is seen after a block: does the next
answer to another session of that subnet fail as well, while other subnets get through? The subnet
rests until that is known. Where it mostly does, a block rests it for longer and longer, and one
session at a time tries whether the ban is over. Such a block is the subnet's and not the session's:
the *subnet's* intensity is put to the test of a `Limit`, and if bans depend on it, subnets are paced.

Until a ban was seen to be shared nothing is counted, and no pick pays for it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from scrapy_session_filter.policies.adaptive.intensity import Meter
from scrapy_session_filter.policies.adaptive.limit import LONGEST_STEP, Limit
from scrapy_session_filter.policies.adaptive.saved import odds

if TYPE_CHECKING:
    from scrapy_session_filter.policies.adaptive.intensity import Levels
    from scrapy_session_filter.policies.adaptive.record import Pick, Record
    from scrapy_session_filter.session import Outcome

TOGETHER = 20.0
"""Seconds within which two blocks in a subnet may be one ban."""
RESTING, LONGEST = 4.0, 900.0
"""Seconds a subnet rests, doubled with each block up to the longest."""
FORGET = 0.97
"""Weight of older blocks at each new one, when it is judged whether they are shared."""
COUNTED = 0.25
"""Share of blocks that are the subnet's from which on the uses of subnets are counted."""
SCOUTS = 1
"""Requests at once beyond the intensity that is safe for a subnet: a ban there costs all of it."""
LOOK_AGAIN = 0.2
"""Seconds until another one may go beyond it."""


class _Suspect(NamedTuple):
    """A block of which we do not know yet whether others of the subnet share it."""

    record: Record
    levels: Levels  #: the subnet's, if counted
    sent: float
    at: float


class SubnetLimit(Limit):
    """A `Limit` that goes up slowly: to meet it costs a whole subnet, not one session."""

    @property
    def _step(self) -> float:
        return LONGEST_STEP if self._is_known else super()._step


class Subnet:
    """One subnet: its uses, its rest, and when the last request was ``sent`` that was blocked."""

    __slots__ = ("meter", "rest", "sent", "since", "suspects", "until")

    def __init__(self) -> None:
        self.meter: Meter | None = None
        self.suspects: list[_Suspect] = []
        self.rest = RESTING
        self.sent = self.since = self.until = -math.inf


class Subnets:
    """The subnets of one site: which rest, and how hard one may be used.

    ``on``: there is something to count or to hold back; else `use` and `pause` need no call.
    """

    def __init__(self) -> None:
        self.limit = SubnetLimit()
        self.known: dict[str, Subnet] = {}  #: those with a block, and those whose uses are counted
        self.resting: dict[str, Subnet] = {}  #: those that are banned, as far as was seen
        self._blocks = [0.0, 0.0]  # those that a subnet shared, and those of a session alone
        self._since: float | None = None  # when counting began
        self._open: dict[str, None] = {}  # subnets with two suspects or more
        self._passed = self._before = ("", -math.inf)  # the last two subnets that got through
        self.on = self.are_shared = self.counts = False

    def _judge(self) -> None:
        shared, alone = self._blocks
        self.are_shared = shared > alone
        self.counts = shared > 0.5 and shared >= COUNTED * (shared + alone)
        self.on = self.counts or bool(self.resting)

    @property
    def paced(self) -> bool:
        """Whether subnets have a limit."""
        return self.counts and self.limit.cap < math.inf

    def pause(self, group: str | None, now: float) -> float:
        """Return the seconds until a session of a subnet may take a request; 0: now."""
        subnet = None if group is None else self.known.get(group)
        if subnet is None:
            return 0.0
        if subnet.until > now:
            return subnet.until - now
        if subnet.meter is None or not self.paced:
            return 0.0
        limit = self.limit
        level = subnet.meter.level(limit.scale, now)
        if level > limit.cap:
            return subnet.meter.wait(limit.scale, now, limit.cap)
        return LOOK_AGAIN if level > limit.safe and limit.scouting >= SCOUTS else 0.0

    def use(self, record: Record, group: str, pick: Pick, now: float) -> None:
        """Count a request; to be called before the session counts it, and only if it is `on`."""
        resting = self.resting.get(group)
        if resting is not None and self.are_shared:
            resting.until = max(resting.until, now + resting.rest)  # the others wait for its answer
        if not self.counts:
            return
        if self._since is None:
            self._since = now
        subnet = self._of(group)
        if subnet.meter is None:
            subnet.meter = Meter(now)
        if record.meter is not None and record.meter.last < self._since:
            subnet.meter.add(record.meter.levels(subnet.meter.last))  # from before it was counted
        pick.subnet = subnet.meter.use(now)
        if self.paced and pick.subnet[self.limit.scale] > self.limit.safe:
            pick.subnet_scout = True
            self.limit.scouting += 1

    def landed(self, pick: Pick) -> None:
        """Note that a scout is back."""
        if pick.subnet_scout:
            pick.subnet_scout = False
            self.limit.scouting -= 1

    def passed(self, group: str, pick: Pick, outcome: Outcome) -> list[Record]:
        """Learn from a page: no ban is shared in its subnet, if it was asked for after the block.

        Return the sessions whose blocks turn out only now to have been a subnet's.
        """
        if pick.subnet:
            self.limit.passed(pick.subnet, outcome.now)
        sent = outcome.sent
        last, last_sent = self._passed
        if group != last:
            self._before, self._passed = self._passed, (group, sent)
        elif sent > last_sent:
            self._passed = group, sent
        subnet = self.known.get(group)
        if subnet is not None and sent > subnet.sent:
            if self.resting.pop(group, None) is not None:
                subnet.rest, subnet.until = RESTING, -math.inf
                self._judge()
            if subnet.suspects:
                subnet.suspects = []
                self._open.pop(group, None)
                self._learn(shared=False)
        if self._open and group not in self._open:
            return self._convict(next(iter(self._open)), outcome.now)
        return []

    def blocked(
        self, record: Record, group: str, pick: Pick, outcome: Outcome
    ) -> tuple[bool, list[Record]]:
        """Learn from a block of a session that worked; return whether it is its subnet's.

        And the sessions of earlier ones that turn out only now to have been the subnet's, too.
        """
        now, subnet = outcome.now, self._of(group)
        tried = group in self.resting and outcome.sent >= subnet.since
        if tried and self.are_shared:
            subnet.rest = min(2.0 * subnet.rest, LONGEST)
        subnet.sent = max(subnet.sent, outcome.sent)
        earlier: list[Record] = []
        known = group in self.resting and not subnet.suspects
        if not known:
            subnet.suspects.append(_Suspect(record, pick.subnet, outcome.sent, now))
            earlier = self._convict(group, now)
        if self.are_shared or len(subnet.suspects) >= 2:
            self._rest(group, subnet, now)
        return known or bool(earlier), earlier

    def _convict(self, group: str, now: float) -> list[Record]:
        """Return the sessions of a subnet whose blocks are one ban, as far as that is sure by now.

        They are, if there are two and a request got through elsewhere that was sent after the first.
        Where several subnets are blocked at once, it may as well be the site.
        """
        subnet = self.known[group]
        suspects = [suspect for suspect in subnet.suspects if now - suspect.at < TOGETHER]
        subnet.suspects = suspects
        if len(suspects) < 2:
            self._open.pop(group, None)
            return []
        self._open[group] = None
        last, sent = self._passed
        others_sent = sent if last != group else self._before[1]
        if len(self._open) > 1 or others_sent <= suspects[0].sent:
            return []
        self._open.pop(group, None)
        subnet.suspects = []
        self._learn(shared=True)
        if suspects[0].levels:
            self.limit.blocked(suspects[0].levels, now)
        if self.are_shared:
            self._rest(group, subnet, now)
        return [suspect.record for suspect in suspects]

    def _rest(self, group: str, subnet: Subnet, now: float) -> None:
        subnet.since, subnet.until = now, now + subnet.rest
        self.resting[group] = subnet
        self.on = True

    def _learn(self, *, shared: bool) -> None:
        self._blocks = [FORGET * count for count in self._blocks]
        self._blocks[not shared] += 1.0
        self._judge()

    def _of(self, group: str) -> Subnet:
        subnet = self.known.get(group)
        if subnet is None:
            subnet = self.known[group] = Subnet()
        return subnet

    def dump(self) -> dict[str, Any]:
        """Return what was learnt, as plain JSON; empty where no ban was shared."""
        if not self.counts:
            return {}
        return {
            "blocks": [round(value, 3) for value in self._blocks],
            "limit": self.limit.dump(),
        }

    def load(self, state: Any) -> None:
        """Take back a `dump`; what does not fit is ignored."""
        saved = odds(state.get("blocks")) if isinstance(state, dict) else None
        if saved is not None:
            self._blocks = saved
            self.limit.load(state.get("limit"))
            self._judge()

    def explain(self, now: float) -> str:
        """Say what is known of subnets; empty where none shared a ban."""
        told = []
        if self.counts:
            shared, alone = self._blocks
            told.append(f"{100 * shared / (shared + alone):.0f} % of blocks are a whole subnet's.")
        if self.paced:
            told.append(self.limit.explain("A subnet"))
        resting = sum(subnet.until > now for subnet in self.resting.values())
        if resting:
            told.append(f"{resting} subnets rest: their sessions were blocked together.")
        return " ".join(told)
