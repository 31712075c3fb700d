"""Sending a page out again: as a copy that the scheduler takes, clean of the last session."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from scrapy_session_filter.extension import RUNS
from scrapy_session_filter.tracking import OF_A_CHAIN, PIN, VERDICT, Track, strip
from scrapy_session_filter.verdict import About, Kind, Strength, Verdict

if TYPE_CHECKING:
    from scrapy import Request
    from scrapy.http import Response

    from scrapy_session_filter.engines import Engines

_CHANGED_ON_THE_WAY = (
    *("Authorization", "Content-Encoding", "Content-Language", "Content-Location", "Content-Type"),
    *("Cookie", "Referer"),
)
"""Headers that Scrapy's redirect middlewares remove or set."""
_OF_AN_ANSWER = ("download_latency", "cached_response", "_dont_cache", "cache_timestamp")
"""Meta that Scrapy sets for one answer: it warns of a spider that yields a request with it."""
_CONDITIONS = ("If-None-Match", "If-Modified-Since")
"""Headers with which Scrapy's HTTP cache asks whether its copy of a page still holds."""
_PAID = (Kind.BLOCKED.value, Kind.THROTTLED.value)
COUNTRIES = 3
"""Exits that a page is tried through which its site keeps from their countries: more are likely of
the same ones."""


def may_try_again(track: Track, verdict: Verdict, retry_times: int) -> bool:
    """Return whether a page may cost another attempt; a pinned one never on another session.

    A page that is refused to one country after another is tried `COUNTRIES` times in all.
    """
    if verdict.about is About.COUNTRY and track.countries >= COUNTRIES:
        return False
    return track.attempts < retry_times and not (track.pinned and verdict.kind is Kind.BLOCKED)


def again(
    request: Request,
    track: Track,
    *,
    binding: Engines | None = None,
    failed: bool = False,
    stays: bool = False,
) -> Request:
    """Return a copy to hand to the scheduler; ``failed`` counts one more attempt against the page.

    ``stays``: in the same session, if it is not gone by then. A redirect chain starts again at its
    first URL. The priority stays as it is. The copy passes the duplicates filter; the user's own
    ``dont_filter`` is put back when it arrives.
    """
    copy = _first_of_chain(request, track)
    if binding is not None and track.marks is not None:
        if failed or stays:
            binding.renew(copy)
        binding.take_off(copy, track.marks)
    strip(copy, track)
    lifted = not copy.dont_filter
    copy.dont_filter = True
    Track(
        pinned=track.pinned,
        retry_times=copy.meta.get("retry_times", 0),
        attempts=track.attempts + failed,
        countries=track.countries,
        avoid=track.avoid + ([track.session] if failed and track.session else []),
        returned=True,
        lifted=lifted,
        restarted=track.restarted or "redirect_urls" in request.meta,
        start=track.start,
        asked=track.asked,
        renewed=track.renewed or stays,
        stays=track.stays or stays,
        init=track.init,
    ).put_on(copy)
    if stays:
        copy.meta[PIN] = track.session
    return copy


def _first_of_chain(request: Request, track: Track) -> Request:
    urls = request.meta.get("redirect_urls")
    if not urls:
        return request.copy()
    start = track.start or {}
    first: Request = request.replace(
        url=urls[0],
        method=start.get("method", "GET"),
        body=start.get("body", b""),
        cookies=start.get("cookies"),
    )
    for name in _CHANGED_ON_THE_WAY:
        first.headers.pop(name, None)
    first.headers.update(start.get("headers", {}))
    for key in OF_A_CHAIN:
        first.meta.pop(key, None)
    return first


def start_of(request: Request) -> dict[str, Any] | None:
    """Return what redirects take from a request, so that it can be made again; None: nothing."""
    headers = {
        name: value
        for name in _CHANGED_ON_THE_WAY
        if (value := request.headers.get(name)) is not None
    }
    start = {
        "method": request.method if request.method != "GET" else None,
        "body": request.body,
        "cookies": request.cookies,
        "headers": headers,
    }
    return {name: value for name, value in start.items() if value} or None


def before_hop(request: Request) -> Track:
    """Return the track of a request that is redirected, ready to go on with the next hop."""
    track = Track.of(request) or Track()
    if not track.redirect_times:
        track.start = start_of(request)
    if track.restarted and not request.dont_filter:
        # The duplicates filter knows the hops of a chain that started again.
        request.dont_filter = track.lifted = True
    return track


def report_block(response: Response, reason: str = "reported") -> Request | None:
    """Report from a callback that a page which looked well was a block after all.

    The session that fetched it pays as for any block, once for each response, unless the response was
    judged a block before; nothing happens to one that is retired already. Returns the request to yield
    for another attempt at the page, or None where it has had all that ``SESSION_FILTER_RETRY_TIMES``
    allows, is pinned to its session, or had no session.
    """
    request = response.request
    track = None if request is None else Track.of(request)
    extension = None if track is None or track.run is None else RUNS.get(track.run)
    if request is None or track is None or extension is None or track.session is None:
        return None
    verdict = Verdict(Kind.BLOCKED, slug(reason), Strength.STRONG)
    if "cached" in response.flags:
        track.amended = True  # what an earlier run fetched says nothing about this session
    judged = request.meta.get(VERDICT) or {}
    if not (track.amended or judged.get("kind") in _PAID):
        track.amended = True
        track.put_on(request)
        extension.numbers.count_verdict(verdict)
        pool = extension.pools.peek(track.site or "")
        if pool is not None:
            pool.amend(track.session, verdict)
    if extension.settings.dry_run:
        return None
    if not may_try_again(track, verdict, extension.settings.retry_times):
        extension.count("gave_up")
        return None
    extension.count("retries")
    request = again(request, track, binding=extension.binding, failed=True)
    for key in _OF_AN_ANSWER:
        request.meta.pop(key, None)
    if extension.crawler.settings.getbool("HTTPCACHE_ENABLED"):
        request.meta["dont_cache"] = True  # else the next attempt would be the same page
        for name in _CONDITIONS:
            request.headers.pop(name, None)
    return request


def slug(text: str) -> str:
    """Return a short text fit for the name of a stat."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40] or "reported"
