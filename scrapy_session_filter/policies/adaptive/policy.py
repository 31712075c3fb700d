from __future__ import annotations

import math

from scrapy_session_filter.policies.adaptive.intensity import advance, bin_of
from scrapy_session_filter.policies.adaptive.ladder import RUNGS, Ladder
from scrapy_session_filter.policies.adaptive.limit import SCOUTS, Limit
from scrapy_session_filter.policies.adaptive.record import EXPLOIT, FRESH, PROBE, Pick, Record
from scrapy_session_filter.policies.base import KEEP, RETIRE, Decision, Policy, Reaction
from scrapy_session_filter.verdict import Kind

LOOK = 8
FIRST_OF = __import__("operator").itemgetter(0)
SHARE = 0.1
SPREAD = 0.25


class AdaptivePolicy(Policy):
    P = {}  # experiment switches

    def __init__(self, context):
        super().__init__(context)
        self.rng = context.rng
        self.work = []
        self.ladder = Ladder()
        self.limit = Limit()
        self.new = [1.0, 1.0]
        self.groups = {}
        self.mean, self.latency = 0.8, 0.0
        self.tokens = 1.0
        self.tick = 0
        self.population = 0
        self.memory = []
        self.oks, self.entries = 0.0, 0
        self.out, self.out_since, self.out_total, self.recovered = 0, 0.0, 0.0, 0  # blocked that worked

    def outage_time(self):
        return (self.out_total + self.P.get("B0",120.0)) / (self.recovered + 1.0)

    def tally_out(self, now, change):
        self.out_total += self.out * (now - self.out_since)
        self.out_since = now
        self.out = max(0, self.out + change)

    # -- membership
    def added(self, session):
        e = session.endpoint
        r = Record(session, None if e is None or e.per_session else e.group, session.used)
        session.memo = r
        self.population += 1
        L = session.learnt
        if L:
            r.good, r.bad, r.latency, r.weight, r.rung, r.worked, w, lv = L
            r.levels = tuple(lv) if lv else None
            r.doubt = "work" if w else None

    def removed(self, session):
        self.population -= 1

    def ready(self, session):
        r = session.memo
        if r.doubt == "work":
            r.doubt = None
            self.enter(r)
        elif r.place == -2:  # is working, was busy
            r.place = -1
            self.enter(r)
        elif r.good or r.bad:
            self.ladder.add(r)

    def busy(self, session):
        r = session.memo
        if r.place >= 0:
            self.leave(r)
            r.place = -2
        self.ladder.remove(r)

    def enter(self, r):
        if r.place < 0:
            self.ladder.remove(r)
            if r.session.ready:
                r.place = len(self.work)
                self.work.append(r)
            else:
                r.place = -2

    def leave(self, r):
        if r.place >= 0:
            l = self.work.pop()
            if l is not r:
                self.work[r.place] = l
                l.place = r.place
        r.place = -1

    # -- choose
    def choose(self, ask):
        now, rnd, exp = ask.now, self.rng.random, math.exp
        limit = self.limit
        work, cap, W, k = self.work, limit.cap, limit.window, limit.scale
        scarce = not ask.can_create
        risk, safe, full = limit.risk, limit.safe, limit.scouting >= max(1, min(SCOUTS, len(self.work) // int(self.P.get("sd", 8)))) if scarce else limit.scouting >= SCOUTS
        avoid = ask.avoid
        n = len(work)
        L = self.latency or 1.0
        mean2 = 2 * self.mean
        m = self.new[0] / (self.new[0] + self.new[1])
        C = self.context.concurrency
        price = 1.0
        limit.scarce = scarce
        limit.pace = self.P.get("pace", 3.0)
        if n and scarce:
            loss = self.outage_time() * C / L / n * min(1.0, C / n)
            price = 1.0 + self.P.get("pk", 0.3) * (min(1 / m, loss) if ask.can_create else loss)
        best, bv, br, wait = None, 0.0, 0.0, 1e9
        over, ou, ow = None, 0.0, 1e9
        use_memory = n > LOOK and not (scarce and n < 2 * C and self.P.get('nomem', 1))
        if n > LOOK:
            look = [r for r in self.memory if r.place >= 0] if use_memory else []
            for _ in range(LOOK - len(look) if n > LOOK else n):
                r = work[int(rnd() * n)]
                if r not in look:
                    look.append(r)
        else:
            look = work
        rated = []
        for r in look:
            s = r.session
            fl = s.in_flight
            if fl > r.good or (avoid and s.id in avoid):
                continue
            u = r.levels[k] * exp((r.last - now) / W) + 1.0
            if u > cap:
                w = W * math.log((u - 1) / (cap - 1))
                if w < ow:
                    over, ou, ow = r, u, w
                continue
            if full and u > safe:
                if wait > 0.2:
                    wait = 0.2
                continue
            x = risk[bin_of(u)]
            v = (r.good + mean2) / (r.good + r.bad + 2) * (1 - min(x * price, 0.9))
            if cap < math.inf:
                v *= 1 - SPREAD * (u / cap) ** 2
            v /= 0.5 + 0.5 * ((r.latency + 2 * L) / (r.weight + 2) / L) * (1 + SHARE * fl)
            rated.append((v, r))
            if v > bv:
                best, bv, br = r, v, x
        mem = int(self.P.get("mem", 4))
        if n > LOOK:
            rated.sort(key=FIRST_OF, reverse=True)
            self.memory = [r for _, r in rated[:mem]]
        fresh = m if ask.can_create else 0.0
        self.tick += 1
        how = EXPLOIT
        if best is None or self.tokens >= 1 or fresh > bv or not self.tick & 3:
            probe, odds = self.ladder.best(now, avoid)
            ev = max(fresh, odds)
            if ask.attempt and best is not None:
                ev = 0.0
            if n and ev * (self.oks / (self.entries + 1) + 1) < self.P.get("gate", 0.2):
                ev = 0.0
            if ev > 0 and (self.tokens >= 1 or not n or (best is not None and ev > bv)):
                how = FRESH if fresh >= odds else PROBE
        if how == EXPLOIT:
            if best is None and over is not None:
                wait = min(wait, max(0.05, ow * min(1.0, LOOK / n)))
                price = 1 + (min(1 / m, self.outage_time() * cap / W) if ask.can_create else self.outage_time() * cap / W)
                if limit.hazard[bin_of(ou)] * price < max(self.P.get("kappa", 0.0), wait / L * self.P.get("wk", 0.3)):
                    self.tokens = min(self.tokens + 1, 2.0 * self.context.concurrency)
                    return Decision.use(over.session, "risked", Pick(EXPLOIT))
            if best is None:
                wait = min(wait, 1.0)
                self.tokens = min(self.tokens + wait / L, 2.0 * self.context.concurrency)
                return Decision.hold(max(0.05, wait))
            self.tokens = min(
                self.tokens + br * min(1 / m, 20.0) + 0.05 * best.session.in_flight,
                2.0 * self.context.concurrency,
            )
            return Decision.use(best.session, "working", Pick(EXPLOIT))
        self.tokens -= 1
        if how == FRESH:
            return Decision.new("new", self.group(m), Pick(FRESH))
        self.ladder.remove(probe)
        return Decision.use(probe.session, "probe", Pick(PROBE, probe.rung, probe.worked))

    def group(self, m):
        names = self.context.free_groups()
        if len(names) < 2:
            return None
        best, bv = None, -1.0
        for _ in range(4):
            g = names[int(self.rng.random() * len(names))]
            x = self.groups.get(g, (0.0, 0.0))
            v = self.rng.betavariate(2 * m + x[0] + 0.01, 2 * (1 - m) + x[1] + 0.01)
            if v > bv:
                best, bv = g, v
        return best

    def acquired(self, lease):
        r = lease.session.memo
        now = lease.acquired
        if not isinstance(lease.tag, Pick):
            lease.tag = Pick(EXPLOIT)
        pick = lease.tag
        self.ladder.remove(r)
        r.levels = pick.levels = advance(r.levels, now - r.last)
        r.last = now
        if pick.how == EXPLOIT and pick.levels[self.limit.scale] > self.limit.safe:
            pick.scout = True
            self.limit.scouting += 1

    def abandoned(self, lease):
        pick, r = lease.tag, lease.session.memo
        if pick.scout:
            self.limit.scouting -= 1
        if pick.how != EXPLOIT:
            self.tokens += 1
            if r.place == -1 and r.session.ready and (r.good or r.bad):
                self.ladder.add(r)

    # -- learn
    def predict(self, lease):
        r, pick = lease.session.memo, lease.tag
        if pick.how == FRESH:
            return self.new[0] / (self.new[0] + self.new[1])
        if pick.how == PROBE:
            return self.ladder.chance(pick.worked, pick.rung)
        return (r.good + 2 * self.mean) / (r.good + r.bad + 2) if r.place != -1 else 0.0

    def report(self, lease, outcome):
        r, pick, now = lease.session.memo, lease.tag, outcome.now
        kind = outcome.verdict.kind
        ok = kind is Kind.OK
        how = pick.how
        limit = self.limit
        if pick.scout:
            limit.scouting -= 1
        if not ok and (kind is Kind.SITE_ERROR or outcome.site_down):
            if how != EXPLOIT:
                if r.place == -1 and r.session.ready:
                    self.ladder.add(r)
                return Reaction(rest=self.ladder.rest(r.rung))
            return KEEP
        if how == FRESH:
            self.new[0] *= 0.99
            self.new[1] *= 0.99
            self.new[not ok] += 1
            if r.group is not None:
                x = self.groups.setdefault(r.group, [0.0, 0.0])
                x[not ok] += 1
        elif how == PROBE:
            self.ladder.learn(pick.worked, pick.rung, ok)
        elif ok or r.place != -1:
            self.mean += 0.005 * (ok - self.mean)
        r.count(ok)
        if ok:
            if how != EXPLOIT:
                self.tokens += 1
            r.timed(outcome.latency)
            self.latency = (
                outcome.latency
                if not self.latency
                else self.latency + 0.02 * (outcome.latency - self.latency)
            )
            if how != EXPLOIT or not outcome.stale:
                if r.doubt is not None:
                    self.tally_out(now, -1)
                    if pick.rung <= 1 and self.P.get("clear", 1):
                        limit.cleared(r.doubt)
                    else:
                        self.recovered += 1
                    r.doubt = None
                if how != EXPLOIT:
                    self.entries += 1
                r.worked = True
                r.rung = 0
                self.enter(r)
            self.oks += 1
            if how == EXPLOIT:
                limit.passed(pick.levels, now)
            return KEEP
        if how == EXPLOIT:
            if r.place == -1:
                return KEEP
            if kind is not Kind.PROXY_ERROR:
                r.doubt = pick.levels
                self.tally_out(now, 1)
                limit.blocked(pick.levels, now)
            elif r.good >= r.bad:
                return KEEP
        elif kind is Kind.PROXY_ERROR and r.worked:
            self.enter(r)
            return KEEP
        else:
            if how == PROBE:
                r.rung = min(r.rung + 1, RUNGS - 1)
            if self.context.gateway and not r.worked:
                return RETIRE
        self.leave(r)
        r.failed = now
        rest = self.ladder.rest(r.rung)
        sk = self.P.get("starve", 4.0)
        if sk and rest > 2:
            C, L = self.context.concurrency, self.latency or 1.0
            idle = self.population - len(self.work)
            if len(self.work) == 0 and not limit.dependent:
                rest = min(rest, max(2.0, idle * L / C * sk))
        return Reaction(rest=rest)

    # -- state
    def dump(self):
        return {}

    def dump_session(self, session):
        r = session.memo
        return [r.good, r.bad, r.latency, r.weight, r.rung, r.worked, r.place != -1, r.levels]

    def explain(self, now):
        return ""
