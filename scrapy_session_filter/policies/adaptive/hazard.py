"""Whether blocks depend on how hard a session is used, and on which time scale.

For each scale the uses and blocks of working sessions are counted per bin of intensity. A
likelihood ratio test for a change point in the hazard (blocks per use) tells a limit from blocks
that come anyway: with a limit, they lie above some intensity and hardly any below. The scale that
separates them best is the one on which the site counts.
"""

from __future__ import annotations

import math
from math import floor
from typing import Any

from scrapy_session_filter.policies.adaptive.intensity import (
    BIN_AT,
    BINS,
    STEPS,
    WINDOWS,
    Levels,
    bin_of,
)
from scrapy_session_filter.policies.adaptive.saved import odds

REFIT = 16
"""Uses between two fits."""
DECAY = 0.98
"""Weight of what was counted before, every four fits: about 3200 uses are remembered. What is known of
intensities above those in use does not fade: under a cap nobody comes there to see it again."""
PRIOR_RISK = 0.00125
"""Assumed hazard per eighth of an octave of intensity before anything is known, as strong as
`PRIOR_USES` uses. Four times as much costs a small list .07 of its goodput, others nothing."""
PRIOR_USES = 20.0
"""Uses that the assumed risk is worth against those that were seen."""
LEAST_BLOCKS = 0.4
"""Blocks, older ones discounted, without which there is no evidence: one counts for 3000 uses."""
CALM, THINNED = 1000, 4
"""After so many uses without a block only every fourth use is counted, four times: it saves time."""
WALL = 2.5
"""Blocks, older ones discounted, that make a wall of an intensity where hardly a use passed."""
LEAST_SPLIT = 8
"""No limit is looked for under 2 uses per window: first and later uses differ anyway."""


class HazardTable:
    """Uses and blocks by scale and intensity.

    ``risk`` is, by bin of the scale last fitted, the chance that a use at that intensity or above
    is blocked; ``hazard`` the same without a prior: one half where nothing is known.
    """

    def __init__(self) -> None:
        self.uses = [[0.0] * BINS for _ in WINDOWS]
        self.blocks = [[0.0] * BINS for _ in WINDOWS]
        self.expected: list[list[float]] = []  #: blocks elsewhere, as if so many were here
        self.risk = [PRIOR_RISK * b for b in range(BINS)]
        self.hazard = [0.5] * BINS
        self._before = [[0.0] * BINS for _ in WINDOWS]  # uses when they last faded
        self._passed = 0  # uses that were counted
        self._calm = 0  # uses since the last block

    def passed(self, levels: Levels) -> bool:
        """Count a use without a block; return whether it is time to fit again."""
        self._calm += 1
        weight = 1.0
        if self._calm > CALM:
            if self._calm % THINNED:
                return False
            weight = THINNED
        for counts, level in zip(self.uses, levels):  # noqa: B905 - speed; both are one per scale
            counts[BIN_AT[floor(level * STEPS)] if level < STEPS else bin_of(level)] += weight
        self._passed += 1
        if self._passed % REFIT:
            return False
        if not self._passed % (4 * REFIT):
            self._fade(DECAY**weight)
        return True

    def _fade(self, decay: float) -> None:
        """Make all that was counted up to the highest bin in use weigh less."""
        for scale, (uses, before) in enumerate(zip(self.uses, self._before, strict=True)):
            end = 1 + next((b for b in range(BINS - 1, -1, -1) if uses[b] > before[b]), -1)
            for table in (self.uses, self.blocks, self.expected):
                if table:
                    table[scale][:end] = [decay * count for count in table[scale][:end]]
            before[:] = uses

    def blocked(self, levels: Levels) -> None:
        """Count a use that was blocked."""
        self._calm = 0
        for uses, blocks, level in zip(self.uses, self.blocks, levels, strict=True):
            at = bin_of(level)
            uses[at] += 1.0
            blocks[at] += 1.0

    def cleared(self, levels: Levels) -> None:
        """Take one block back: it was gone at once, so it was not the limit's."""
        for blocks, level in zip(self.blocks, levels, strict=True):
            at = bin_of(level)
            blocks[at] = max(0.0, blocks[at] - 1.0)

    def expect(self, other: HazardTable, most: float) -> None:
        """Take another table's blocks for likely, as ``most`` at most, when it looks for a limit.

        Not its uses without a block: where there are no blocks, only the own ones may say.
        """
        weight = min(1.0, most / max(*map(sum, other.blocks), 1e-9))
        self.expected = [[weight * count for count in counts] for counts in other.blocks]

    def split(self, scale: int, end: int = BINS) -> tuple[float, int]:
        """Return how much better two hazards explain a scale than one (nats), and the bin between.

        Only splits whose upper hazard is more than twice the lower count. (0, 0): none. ``end``: the
        bin from which on nothing is looked at.
        """
        uses, blocks = self.uses[scale], self.blocks[scale]
        if self.expected:
            expected = self.expected[scale]
            uses = [a + b for a, b in zip(uses, expected, strict=True)]
            blocks = [a + b for a, b in zip(blocks, expected, strict=True)]
        all_uses, all_blocks = sum(uses[:end]), sum(blocks[:end])
        if all_blocks < LEAST_BLOCKS:
            return 0.0, 0
        one = _likelihood(all_uses, all_blocks)
        best, at = 0.0, 0
        low_uses = low_blocks = 0.0
        for b in range(1, end):
            low_uses += uses[b - 1]
            low_blocks += blocks[b - 1]
            if b < LEAST_SPLIT:
                continue
            high_uses, high_blocks = all_uses - low_uses, all_blocks - low_blocks
            if high_uses < 1:
                break
            if uses[b] and high_blocks * low_uses > 2 * low_blocks * high_uses:
                two = _likelihood(low_uses, low_blocks) + _likelihood(high_uses, high_blocks)
                if two - one > best:
                    best, at = two - one, b
        return best, at

    def rate(self, scale: int, low: int, high: int) -> float:
        """Return blocks per use in the bins from ``low`` up to ``high``."""
        return (sum(self.blocks[scale][low:high]) + 0.1) / (sum(self.uses[scale][low:high]) + 1.0)

    def is_local(self, scale: int, level: float) -> bool:
        """Return whether blocks are over twice as frequent around ``level`` as below it.

        If not, a block there is background: a soft block, or a ban that would have come anyway.
        """
        low, high = bin_of(0.7 * level), bin_of(1.2 * level) + 1
        uses, blocks = self.uses[scale], self.blocks[scale]
        overall = sum(blocks) / max(sum(uses), 1.0)
        below = (sum(blocks[:low]) + 0.1 + 10.0 * overall) / (sum(uses[:low]) + 10.0)
        return sum(blocks[low:high]) > 0.9 + 2.0 * below * sum(uses[low:high])

    def is_wall(self, scale: int, level: float) -> bool:
        """Return whether most uses at ``level`` and above were blocked, as far as is remembered."""
        at = bin_of(level)
        blocks = sum(self.blocks[scale][at:])
        return blocks > WALL and blocks > 0.5 * sum(self.uses[scale][at:])

    def fit(self, scale: int) -> None:
        """Bring `risk` and `hazard` up to date, on one scale."""
        uses, blocks = self.uses[scale], self.blocks[scale]
        n = x = 0.0
        for b in range(BINS - 1, -1, -1):
            n += uses[b]
            x += blocks[b]
            self.hazard[b] = (x + 0.5) / (n + 1.0)
            self.risk[b] = (x + PRIOR_RISK * b * PRIOR_USES) / (n + PRIOR_USES)

    def dump(self) -> list[dict[str, list[float]]]:
        """Return the counts as plain JSON: per scale, bin to [uses, blocks]."""
        return [
            {
                str(b): [round(uses[b], 2), round(blocks[b], 2)]
                for b in range(BINS)
                if uses[b] > 0.005
            }
            for uses, blocks in zip(self.uses, self.blocks, strict=True)
        ]

    def load(self, state: Any) -> None:
        """Take back a `dump`; what does not fit is ignored."""
        if not isinstance(state, list) or len(state) != len(WINDOWS):
            return
        for scale, counts in enumerate(state):
            for key, value in counts.items() if isinstance(counts, dict) else ():
                saved = odds(value)
                if saved is not None and key.isdecimal() and int(key) < BINS:
                    self.uses[scale][int(key)] = saved[0]
                    self.blocks[scale][int(key)] = min(saved)


def _likelihood(n: float, x: float) -> float:
    """Return the log-likelihood of x blocks in n uses at their own rate."""
    p = min(max((x + 0.01) / (n + 0.02), 1e-6), 1 - 1e-6)
    return x * math.log(p) + (n - x) * math.log(1 - p)
