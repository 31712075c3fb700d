"""How hard may one session be used before the site blocks it?"""

from __future__ import annotations

import math

from scrapy_session_filter.policies.adaptive.intensity import BINS, USUAL, WINDOWS, bin_of

EVIDENCE = 6.0
KEEP_EVIDENCE = 3.0
DECAY = 0.995
PRIOR_RISK = 0.005
PRIOR_USES = 20.0
USUAL_BONUS = 1.0
STAY_BONUS = 5.0
SCOUTS = 4
FIRST_SAFE = 4.0
REFIT = 16
INF = math.inf


def _likelihood(n: float, x: float) -> float:
    p = min(max((x + 0.01) / (n + 0.02), 1e-6), 1 - 1e-6)
    return x * math.log(p) + (n - x) * math.log(1 - p)


class Limit:
    def __init__(self):
        self.uses = [[0.0] * BINS for _ in WINDOWS]
        self.bans = [[0.0] * BINS for _ in WINDOWS]
        self.hazard = [0.5] * BINS
        self.risk = [PRIOR_RISK * b / 2 for b in range(BINS)]
        self.scale = USUAL
        self.window = WINDOWS[USUAL]
        self.cap = INF
        self.grow_at = self.cut_at = 0.0
        self.edge = 0.0
        self.near = 0
        self.dependent = False
        self.gain = 0.0
        self.safe, self.safe_hits = FIRST_SAFE, 0
        self.scouting = 0
        self.k = 0
        self.scarce, self.safe_at, self.pace = False, 0.0, 3.0
        self.last_cut = None  # (levels, cap, edge, near) before
        self.hint = -1

    # -- observations
    def passed(self, levels, now):
        for k in range(len(WINDOWS)):
            self.uses[k][bin_of(levels[k])] += 1.0
        self.k += 1
        if not self.k % REFIT:
            for k in range(len(WINDOWS)):
                u, x = self.uses[k], self.bans[k]
                for b in range(BINS):
                    u[b] *= DECAY
                    x[b] *= DECAY
            if not self.k % (4 * REFIT):
                self.fit()
            self.fit_risk()
        u = levels[self.scale]
        if u > 0.9 * self.safe:
            self.safe_hits += 1
            if self.safe_hits >= 3 and now > self.safe_at:
                self.safe *= 1.25
                self.safe_hits = 0
                self.safe_at = now + (self.pace if self.scarce else 0.0)
        if u > 0.8 * self.cap and now > self.grow_at:
            near = 0.7 * self.edge < self.cap < 1.2 * self.edge
            self.cap *= 1 + 0.1 / 2**self.near if near else 1.5
            self.grow_at = now + self.step()

    def step(self):
        return min(max(self.window / 2, 15.0), 60.0)

    def blocked(self, levels, now):
        for k in range(len(WINDOWS)):
            b = bin_of(levels[k])
            self.uses[k][b] += 1.0
            self.bans[k][b] += 1.0
        before = self.scale
        self.fit()
        self.fit_risk()
        u = levels[self.scale]
        if u > 0.7 * self.safe:
            self.safe = max(0.8 * u, 2.0)
            self.safe_hits = 0
        if self.dependent and u > 1.5 and now > self.cut_at and (self.cap == INF or self.cap * 0.6 < u) and self.local(u):
            self.last_cut = (levels, self.cap, self.edge, self.near, self.scale)
            self.near = self.near + 1 if 0.7 * self.edge < u < 1.3 * self.edge else 0
            self.edge = u
            self.cap = max(min(self.cap, 0.85 * u), 0.7 * self.cap if self.cap < INF else 0, 1.2)
            self.grow_at = now + 2 * self.step()
            self.cut_at = now + self.step() / 3

    def cleared(self, levels):
        """That block was gone at once: no ban, so it says nothing about intensity."""
        for k in range(len(WINDOWS)):
            b = bin_of(levels[k])
            self.bans[k][b] = max(0.0, self.bans[k][b] - 1.0)
        if self.last_cut and self.last_cut[0] is levels and self.last_cut[4] == self.scale:
            _, self.cap, self.edge, self.near, _ = self.last_cut
            self.last_cut = None
        self.fit()
        self.fit_risk()

    def local(self, u):
        i, j = bin_of(0.7 * u), bin_of(1.2 * u) + 1
        uses, bans = self.uses[self.scale], self.bans[self.scale]
        lo = (sum(bans[:i]) + 0.1) / (sum(uses[:i]) + 10)
        return sum(bans[i:j]) > 0.9 + 2 * lo * sum(uses[i:j])

    def fit(self):
        best, at, split = 0.0, self.scale, 0
        self.gain = 0.0
        for k in range(len(WINDOWS)):
            g, b = self.split(k)
            if k == self.scale:
                self.gain = g
                g += STAY_BONUS
            if k == USUAL:
                g += USUAL_BONUS
            if k == self.hint:
                g += 3.0
            if g > best:
                best, at, split, raw = g, k, b, g
        if at != self.scale and best > EVIDENCE:
            self.switch(at, split)
            self.gain = self.split(at)[0]
        self.dependent = self.gain > (KEEP_EVIDENCE if self.dependent else EVIDENCE)

    def switch(self, k, split):
        theta = 2 ** (split / 4)
        self.scale, self.window = k, WINDOWS[k]
        if self.cap < INF or True:
            self.edge = theta * 1.1
            self.cap = max(1.2, 0.95 * theta)
            self.near = 0
        self.safe, self.safe_hits = max(0.8 * theta, 2.0), 0
        self.last_cut = None

    def split(self, k):
        uses, bans = self.uses[k], self.bans[k]
        N, X = sum(uses), sum(bans)
        if X < 0.9:
            return 0.0, 0
        base = _likelihood(N, X)
        n = x = 0.0
        best, at = 0.0, 0
        for b in range(1, BINS):
            n += uses[b - 1]
            x += bans[b - 1]
            if N - n < 1:
                break
            if uses[b] and (X - x) * n > 2 * x * (N - n):
                g = _likelihood(n, x) + _likelihood(N - n, X - x) - base
                if g > best:
                    best, at = g, b
        return best, at

    def fit_risk(self):
        uses, bans, risk = self.uses[self.scale], self.bans[self.scale], self.risk
        n = x = 0.0
        for b in range(BINS - 1, -1, -1):
            n += uses[b]
            x += bans[b]
            self.hazard[b] = (x + 0.5) / (n + 1.0)
            risk[b] = (x + PRIOR_RISK * b / 2 * PRIOR_USES) / (n + PRIOR_USES)
