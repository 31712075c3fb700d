"""What an answer says about the session that fetched it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any


class Kind(str, Enum):
    """Who pays for an answer."""

    OK = "OK"  #: a page, or an error of the page's own (404)
    BLOCKED = "BLOCKED"  #: this visitor was refused; the session pays
    THROTTLED = "THROTTLED"  #: too fast; the pace pays
    PROXY_ERROR = "PROXY_ERROR"  #: the endpoint pays, on every site
    SITE_ERROR = "SITE_ERROR"  #: nobody pays, unless other sessions get through

    def __str__(self) -> str:
        return self.value


KIND_OK = Kind.OK
"""For what runs at every request: through the class it is dear before Python 3.12."""


class Strength(str, Enum):
    """Strong evidence proves alone; weak evidence wants a repetition."""

    STRONG = "strong"
    WEAK = "weak"

    def __str__(self) -> str:
        return self.value


class About(str, Enum):
    """What a block is about, hence what another attempt has to change."""

    VISITOR = "visitor"
    ADDRESS = "address"
    COUNTRY = "country"
    USER_AGENT = "user-agent"
    RATE = "rate"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class Verdict:
    """A judgement with its reasons; immutable, and plain enough to travel in ``request.meta``.

    ``reason`` is a short slug (``"status-403"``, ``"captcha-page"``); those of trouble on this very
    machine start with ``local-``. ``evidence`` is the marker or header that decided, at most 80
    characters. ``retry_after`` is in seconds, already clamped to a sane range, or None.
    """

    kind: Kind
    reason: str
    strength: Strength = Strength.STRONG
    about: About = About.VISITOR
    vendor: str | None = None
    evidence: str | None = None
    retry_after: float | None = None

    @property
    def is_block(self) -> bool:
        """Whether the page was withheld from this visitor (BLOCKED or THROTTLED)."""
        return self.kind is Kind.BLOCKED or self.kind is Kind.THROTTLED

    @property
    def is_local(self) -> bool:
        """Whether the trouble is this machine's own (open files, no route): nobody is blamed."""
        return self.reason.startswith("local-")

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, for ``response.meta["session_filter_verdict"]``."""
        return {
            "kind": self.kind._value_,  # what `value` returns, by way of two calls
            "reason": self.reason,
            "strength": self.strength._value_,
            "about": self.about._value_,
            "vendor": self.vendor,
            "evidence": self.evidence,
            "retry_after": self.retry_after,
        }

    def __str__(self) -> str:
        vendor = f" by {self.vendor}" if self.vendor else ""
        return f"{self.kind} ({self.strength}, {self.reason}{vendor})"


OK = Verdict(Kind.OK, "ok")
