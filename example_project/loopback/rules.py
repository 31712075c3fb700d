"""What the site notes of a visit, and the rules that decide what it gets."""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Mapping

    from loopback.answers import Answer

    AnswerLike = Answer | str | int | Mapping[str, Any]


@dataclass(slots=True)
class Visit:
    """One request as the site saw it; header names are in lower case.

    ``exit`` is the address it came from and ``direct`` true where that is no proxy's exit;
    ``connection`` numbers the TCP connections; ``time`` is `time.monotonic` at arrival. ``answer``
    is the name of what it got, ``block`` whether that was a refusal.
    """

    time: float
    exit: str
    direct: bool
    connection: int
    method: str
    scheme: str
    host: str
    path: str
    headers: dict[str, str]
    body: bytes
    status: int = 0
    answer: str = ""
    block: bool = False

    @property
    def url(self) -> str:
        """The URL that was asked for."""
        return f"{self.scheme}://{self.host}{self.path}"

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return {**asdict(self), "body": self.body.decode("latin-1")}


@dataclass(slots=True)
class Rule:
    """Answers visits to a path from some exits, or all; ``left`` times, or always."""

    answer: Answer | Callable[[Visit], AnswerLike | None]
    path: re.Pattern[str] | None
    host: re.Pattern[str] | None
    exits: frozenset[str] | None
    left: int | None

    def matches(self, visit: Visit) -> bool:
        """Whether this visit is meant; the captcha page itself only if the rule names a path."""
        if self.left == 0 or (self.exits is not None and visit.exit not in self.exits):
            return False
        if self.host is not None and not self.host.match(visit.host):
            return False
        return visit.path != "/captcha" if self.path is None else bool(self.path.match(visit.path))


@dataclass(slots=True)
class Limit:
    """At most ``requests`` per ``window`` seconds and exit; then ``ban`` seconds of ``answer``."""

    requests: int
    window: float
    ban: float
    answer: Answer
    seen: dict[str, deque[float]] = field(default_factory=dict)
    until: dict[str, float] = field(default_factory=dict)

    def refuses(self, exit_: str, now: float) -> bool:
        """Count a request and say whether it comes too fast."""
        if now < self.until.get(exit_, 0.0):
            return True
        times = self.seen.setdefault(exit_, deque())
        while times and times[0] <= now - self.window:
            times.popleft()
        if len(times) < self.requests:
            times.append(now)
            return False
        times.clear()
        self.until[exit_] = now + self.ban
        return True
