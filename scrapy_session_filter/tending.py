"""What ``scrapy sessions`` does with a store: read for people's eyes, and tidy up."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scrapy.exceptions import UsageError

from scrapy_session_filter.exceptions import InvalidRow, StoreError
from scrapy_session_filter.explaining import explain_saved
from scrapy_session_filter.session import Session
from scrapy_session_filter.settings import SessionFilterSettings
from scrapy_session_filter.stores.base import MAX_ROW_BYTES, Batch
from scrapy_session_filter.stores.codec import encode, row_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from scrapy.settings import BaseSettings

    from scrapy_session_filter.session import Row
    from scrapy_session_filter.stores.base import SessionStore

logger = logging.getLogger("scrapy_session_filter")


def run(settings: BaseSettings, action: str, arguments: list[str], *, status: int) -> None:
    """Carry out one action; prints its result.

    Raises `SessionFilterError` for a store that cannot be used, UsageError for wrong arguments.
    """
    if action == "judge":
        judge(settings, *_exactly(arguments, 1, "a file or a URL"), status=status)
        return
    with _open(settings) as store:
        if action == "list":
            _exactly(arguments, 0, "nothing more than the action")
            list_sites(store)
        elif action == "show":
            show(store, *_exactly(arguments, 1, "a site or a session id"))
        elif action == "report":
            _exactly(arguments[1:], 0, "one site, or none")
            report(store, *arguments[:1])
        elif action == "retire":
            retire(store, arguments or _exactly(arguments, 1, "session ids"))
        elif action == "purge":
            purge(store, *_exactly(arguments, 1, "a site"))
        elif action == "export":
            export(store, *_exactly(arguments, 1, "a file, or -"))
        else:
            import_(store, *_exactly(arguments, 1, "a file"))


def _exactly(arguments: list[str], count: int, what: str) -> list[str]:
    if len(arguments) != count:
        msg = f"name {what}"
        raise UsageError(msg, print_help=False)
    return arguments


@contextmanager
def _open(settings: BaseSettings) -> Iterator[SessionStore]:
    store = SessionFilterSettings.from_settings(settings, crawling=False).make_store()
    store.open()
    try:
        yield store
    finally:
        store.close()


def list_sites(store: SessionStore) -> None:
    """Print each site of which something is known, with its numbers."""
    rows = {site: Counter[str]() for site in store.sites() if store.site_state(site)}
    now = time.time()
    for row in store.rows():
        rows.setdefault(row["site"], Counter()).update(("sessions", _standing(row, now)))
    lines = [
        (site, str(n["sessions"]), str(n["working"]), str(n["resting"]), str(n["unproven"]))
        for site, n in sorted(rows.items())
    ]
    _table(("site", "sessions", "working", "resting", "unproven"), lines)


def show(store: SessionStore, name: str) -> None:
    """Print a site's sessions and say what was learnt of it, or all of one session but its cookies."""
    found = [row for row in _sessions(store) if name in (row["site"], row["id"])]
    if not found:
        msg = f"no site and no session {name!r} in the store"
        raise StoreError(msg)
    if found[0]["id"] == name:
        cookies = found[0].get("cookies") or []
        shown = {**found[0], "cookies": f"{len(cookies)} cookies"}
        print(json.dumps(shown, indent=2))
        return
    report(store, name)
    rows = (row for row in found if row["site"] == name)
    print("\n" + explain_saved(name, rows, store.site_state(name), now=time.time()))


def report(store: SessionStore, site: str | None = None) -> None:
    """Print a line for each session; StoreError for a site of which nothing is known."""
    now = time.time()
    lines = [
        (
            row["site"],
            row["id"],
            _standing(row, now),
            str(row["uses"]),
            str(row["oks"]),
            str(row["blocks"]),
            f"{(now - row['born']) / 3600:.1f} h",
            f"{(now - row['used']) / 60:.0f} min ago",
        )
        for row in _sessions(store, site)
    ]
    if site is not None and not lines:
        _must_be_known(site, store.site_state(site))
    _table(("site", "session", "state", "uses", "ok", "blocks", "age", "last used"), sorted(lines))


def _sessions(store: SessionStore, site: str | None = None) -> Iterator[Row]:
    """Yield saved sessions, but for rows that no crawl would take: Redis holds anybody's."""
    return filter(_is_sound, store.rows(site))


def _is_sound(row: Row) -> bool:
    try:
        _check(row)
    except InvalidRow as error:
        logger.warning("%s is left out: %s", _printable(f"{row['site']} {row['id']}"), error)
        return False
    return True


def _check(row: Row) -> None:
    Session.from_row(row, None, now=0.0, wall_offset=time.time())


def retire(store: SessionStore, ids: list[str]) -> None:
    """Forget sessions; says which are unknown, or held by a crawl that runs."""
    wanted = set(ids)
    found = [(row["site"], row["id"]) for row in store.rows() if row["id"] in wanted]
    for unknown in sorted(wanted - {session for _, session in found}):
        print(f"{unknown}: no such session")
    _remove(store, found)


def purge(store: SessionStore, site: str) -> None:
    """Forget a site's sessions and what was learnt of it; StoreError where nothing is known."""
    state = store.site_state(site) or {}
    sessions = [(site, row["id"]) for row in store.rows(site)]
    if not sessions:
        _must_be_known(site, state)
    _remove(store, sessions)
    store.apply(Batch(_batch_id("purge"), sites={site: dict.fromkeys(state)}))


def _must_be_known(site: str, state: Mapping[str, Any] | None) -> None:
    if not state:
        msg = f"no site {site!r} in the store"
        raise StoreError(msg)


def _remove(store: SessionStore, sessions: list[tuple[str, str]]) -> None:
    before = store.refused
    for site in {site for site, _ in sessions}:
        store.claim(site, ())
    store.apply(Batch(_batch_id("remove"), removed=sessions))
    refused = store.refused - before
    print(f"{len(sessions) - refused} sessions retired")
    if refused:
        print(f"{refused} are in use by a crawl that runs: stop it first")


def export(store: SessionStore, path: str) -> None:
    """Write all sessions; the file is for its owner's eyes only, as it holds cookies."""
    lines = (json.dumps(row, sort_keys=True) + "\n" for row in store.rows())
    if path == "-":
        sys.stdout.writelines(lines)
        return
    target = Path(path).resolve()
    if target.exists() and not target.is_file():
        msg = f"{path} is no file"
        raise UsageError(msg, print_help=False)
    new = target.with_name(target.name + ".new")
    new.unlink(missing_ok=True)
    new.touch(mode=0o600, exist_ok=False)
    try:
        with new.open("w", encoding="ascii") as file:
            file.writelines(lines)
        new.replace(target)  # an export that fails leaves the last one
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def import_(store: SessionStore, path: str) -> None:
    """Read sessions, each line checked by itself; what is wrong is named and left out."""
    rows = []
    lines = Path(path).read_bytes().splitlines()  # text would be split at U+2028, too
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            if not isinstance(row, dict):
                msg = "not a JSON object"
                raise InvalidRow(msg)
            _check(row)
            row_key(row)
            encode(row, MAX_ROW_BYTES)
        except (ValueError, RecursionError) as error:
            print(f"{path}:{number}: left out: {error}")
        else:
            rows.append(row)
    before = store.refused
    store.apply(Batch(_batch_id("import"), sessions=rows))
    refused = store.refused - before
    print(f"{len(rows) - refused} sessions imported" + (f", {refused} refused" * bool(refused)))


def judge(settings: BaseSettings, page: str, *, status: int) -> None:
    """Print what a page would count as, rule by rule."""
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import urlopen

    from scrapy.http import Headers, Response
    from w3lib.url import safe_url_string

    if page.startswith(("http://", "https://")):
        try:
            url = safe_url_string(page)
            with urlopen(url, timeout=30) as answer:  # noqa: S310 - http and https only, see above
                body, headers, status, url = (
                    answer.read(),
                    answer.headers,
                    answer.status,
                    answer.url,
                )
        except HTTPError as error:
            body, headers, status, url = error.read(), error.headers, error.code, page
        except (ValueError, HTTPException) as error:
            msg = f"{page} cannot be fetched: {error!r}"
            raise UsageError(msg, print_help=False) from None
        response = Response(url, status, Headers(headers.items()), body)
    else:
        response = Response("http://file.example/", status, body=Path(page).read_bytes())
    configured = SessionFilterSettings.from_settings(settings, crawling=False).make_judge()
    print(configured.explain(response))


def _standing(row: Row, now: float) -> str:
    rest = row.get("rest")
    if isinstance(rest, (int, float)) and rest > now:
        return "resting"
    return "working" if row.get("oks") else "unproven"


def _batch_id(action: str) -> str:
    return f"{action}-{time.time_ns():x}"


def _printable(text: str) -> str:
    """Escape what a terminal would obey: keys of sites are anybody's text."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _table(head: tuple[str, ...], lines: Iterable[tuple[str, ...]]) -> None:
    rows = [head, *(tuple(map(_printable, line)) for line in lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    for row in rows:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )
