from __future__ import annotations

from collections import deque

FIRST = 2.0
FACTOR = 2.0
RUNGS = 13


class Ladder:
    def __init__(self):
        self.queues = [[deque() for _ in range(RUNGS)] for _ in (0, 1)]
        self.odds = [[[0.5, 1.0] for _ in range(RUNGS)] for _ in (0, 1)]
        self.waiting = 0

    @staticmethod
    def rest(rung):
        return FIRST * FACTOR**rung

    def add(self, r):
        if r.queue is None:
            self.waiting += 1
        q = r.queue = self.queues[r.worked][r.rung]
        q.append(r)

    def remove(self, r):
        if r.queue is not None:
            r.queue = None
            self.waiting -= 1

    def best(self, now, avoid):
        """-> (record, odds) ready to be probed"""
        best, odds = None, 0.0
        if not self.waiting:
            return None, 0.0
        for c in (1, 0):
            for k in range(RUNGS):
                q = self.queues[c][k]
                while q and q[0].queue is not q:
                    q.popleft()
                if not q:
                    continue
                r = q[0]
                if k + 1 < RUNGS and now - r.failed > self.rest(k + 1):
                    q.popleft()
                    r.rung = k + 1
                    r.queue = None
                    self.waiting -= 1
                    self.add(r)
                    continue
                a, b = self.odds[c][k]
                if a / (a + b) > odds:
                    if avoid and r.session.id in avoid:
                        q.rotate(-1)
                        continue
                    best, odds = r, a / (a + b)
        return best, odds

    def learn(self, worked, rung, ok):
        o = self.odds[worked][rung]
        o[0] *= 0.97
        o[1] *= 0.97
        o[not ok] += 1.0

    def chance(self, worked, rung):
        a, b = self.odds[worked][rung]
        return a / (a + b)
