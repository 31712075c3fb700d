"""What the load balancer allows, and through which proxies: the layouts of the benchmark."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One site and one list of proxies.

    Of ``proxies`` exits only ``good`` are let in. One that sends more than ``limit`` requests in
    ``window`` seconds is refused with ``status`` for ``ban`` seconds; 0: for as long as it is over
    the limit. ``prolongs``: a request during the ban begins it anew (or counts against the limit).
    ``retry_after``: what the refusal says about that, in seconds. ``latency``: seconds before each
    answer. The proxies lie in ``subnets`` subnets (/24). ``concurrency``: requests at once.
    """

    name: str
    pages: int
    proxies: int
    good: int
    limit: int
    window: int
    ban: int = 0
    prolongs: bool = True
    status: int = 403
    retry_after: int | None = None
    latency: float = 0.05
    subnets: int = 1
    concurrency: int = 32

    @property
    def allowed(self) -> float:
        """Seconds that the limits allow the crawl to take."""
        return self.pages * self.window / (self.good * self.limit)

    def told(self) -> str:
        """Say in a line what the layout is."""
        ban = f"{self.ban} s ban" if self.ban else "refused while over it"
        prolonged = ", prolonged by each request" if self.prolongs else ""
        told = "" if self.retry_after is None else f" with Retry-After {self.retry_after}"
        return (
            f"{self.pages:,} pages, {self.good} of {self.proxies} proxies good, "
            f"{self.limit} requests per {self.window} s and address, {ban}{prolonged}, "
            f"status {self.status}{told}"
        )


LAYOUTS = {
    layout.name: layout
    for layout in (
        Layout(name="limit", pages=4000, proxies=200, good=80, limit=20, window=10),
        Layout(name="scarce", pages=3000, proxies=400, good=22, limit=40, window=10),
        Layout(  # within what a slow or busy machine can do
            name="slow",
            pages=800,
            proxies=60,
            good=24,
            limit=8,
            window=10,
            subnets=3,
            concurrency=16,
        ),
        Layout(
            name="minute",
            pages=2500,
            proxies=120,
            good=60,
            limit=40,
            window=60,
            ban=30,
            status=429,
            subnets=4,
        ),
        Layout(
            name="small",
            pages=1200,
            proxies=15,
            good=12,
            limit=30,
            window=10,
            ban=20,
            prolongs=False,
            subnets=15,
        ),
        Layout(
            name="told",
            pages=2500,
            proxies=150,
            good=50,
            limit=15,
            window=5,
            status=429,
            retry_after=5,
            subnets=150,
        ),
        Layout(
            name="strict",
            pages=3000,
            proxies=300,
            good=100,
            limit=30,
            window=30,
            ban=120,
            subnets=30,
        ),
    )
}


def names_of(given: str, known: Collection[str], option: str) -> list[str]:
    """Return the names in a command line option; it ends the program where one is unknown."""
    names = given.split(",")
    unknown = [name for name in names if name not in known]
    if unknown:
        msg = f"{option}: no {', '.join(unknown)}; there are: {', '.join(known)}"
        raise SystemExit(msg)
    return names
