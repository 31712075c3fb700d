"""How long a site asks to be left alone."""

from __future__ import annotations

import math
import time
from email.utils import parsedate_to_datetime

LIMIT = 3600.0  #: seconds; no site decides more than an hour of a crawl


def parse_retry_after(value: str, now: float | None = None) -> float | None:
    """Return the seconds a Retry-After header asks for, within 0..`LIMIT`, or None for garbage.

    Takes a number of seconds or an HTTP date (RFC 9110); ``now`` is the wall clock, in seconds
    since the epoch.
    """
    value = value.strip()[:64]
    try:
        seconds = float(value)
    except ValueError:
        try:
            when = parsedate_to_datetime(value).timestamp()
        except Exception:  # noqa: BLE001 - garbage makes it raise nearly anything
            return None
        seconds = when - (time.time() if now is None else now)
    if math.isnan(seconds):
        return None
    return min(max(seconds, 0.0), LIMIT)
