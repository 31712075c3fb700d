"""How long what this process has claimed in a shared store is its own."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(slots=True)
class Tenure:
    """Until when the claims hold, on the pools' clock; infinity where nobody else can claim.

    After ``until`` another process may have everything: no lease is given until the claims were
    renewed, also in a process that was stopped for longer and goes on without knowing it.
    """

    until: float = math.inf
