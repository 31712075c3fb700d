"""Who may use which exit, among the processes that share a store file.

An owner's claims hold until the time in its row of ``owners``, as long as it lives. Times are
seconds of the system-wide monotonic clock, so nobody's wall clock matters; after a restart of the
machine no owner of before is alive. Each grant has a higher token than all before it. What an
owner remembers of its tokens decides whether it may still write.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Collection, Iterable

    from scrapy_session_filter.stores.owners import Owners


class Claims:
    """One owner's claims. All methods with a ``db`` run inside the caller's transaction; what they
    granted counts after `keep`, once that is committed.
    """  # noqa: D205 - one sentence says it

    def __init__(self, owners: Owners, clock: Callable[[], float], seconds: float) -> None:
        self._owners = owners
        self._me = owners.id
        self._clock = clock
        self._seconds = seconds
        #: By site, the token under which each exit was last granted; kept when the claim is gone.
        self._tokens: dict[str, dict[str, int]] = {}
        #: By site, the exits whose loss was not told of: held, as far as this owner knows.
        self._held: dict[str, set[str]] = {}

    def grant(
        self,
        db: sqlite3.Connection,
        site: str,
        candidates: Iterable[str],
        most: int | None,
    ) -> tuple[int, set[str], int]:
        """Claim a fair share of the free ones among candidates, the first of them.

        Returns the token, what was granted, and how many exits are still lacking of an equal part.
        """
        rivals = self._rivals(db)
        self._bury(db, rivals)
        live = self._unexpired(rivals)
        claimed: dict[str, str | None] = dict(
            db.execute("SELECT exit, owner FROM claims WHERE site = ?", (site,))
        )
        held = self._held.get(site, set())
        all_ = dict.fromkeys(candidates)
        free = [exit_ for exit_ in all_ if exit_ not in held and claimed.get(exit_) not in live]
        share = -(-len(free) // (len(live) + 1))
        granted = free[: share if most is None else min(share, max(most, 0))]
        known = len(claimed) + sum(exit_ not in claimed for exit_ in all_)
        equal = known // self._users(db, site, live)
        goal = equal if most is None else min(equal, len(held) + most)
        short = max(0, goal - len(held) - len(granted))
        self._note_want(db, site, short)
        if not granted:  # nothing was written unless this owner is short: asking often is cheap
            return _last_token(db), set(), short
        self._stay(db)
        for robbed in {claimed.get(exit_) for exit_ in granted}:
            db.execute("UPDATE owners SET robbed = 1 WHERE id = ?", (robbed,))
        token = _next_token(db)
        self._write(db, site, granted, token)
        return token, set(granted), short

    def renew(self, db: sqlite3.Connection) -> dict[str, set[str]]:
        """Prolong all claims; returns the lost ones, which are lost for good after `drop`."""
        if not self._tokens:
            return {}
        robbed = db.execute("SELECT robbed FROM owners WHERE id = ?", (self._me,)).fetchone()
        self._stay(db)
        if robbed == (0,):
            return {}
        db.execute("UPDATE owners SET robbed = 0 WHERE id = ?", (self._me,))
        current: dict[str, dict[str, int]] = {}
        for site, exit_, token in db.execute(
            "SELECT site, exit, token FROM claims WHERE owner = ?", (self._me,)
        ):
            current.setdefault(site, {})[exit_] = token
        lost = {}
        for site, exits in self._held.items():
            now = current.get(site, {})
            gone = {e for e in exits if now.get(e) != self._tokens[site][e]}
            if gone:
                lost[site] = gone
        return lost

    def release(self, db: sqlite3.Connection, site: str, exits: Collection[str]) -> None:
        """Give exits back; their tokens stay, so that a later owner's changes are not undone."""
        db.executemany(
            "UPDATE claims SET owner = NULL WHERE site = ? AND exit = ? AND owner = ?",
            ((site, exit_, self._me) for exit_ in exits),
        )
        db.execute("DELETE FROM wants WHERE site = ? AND owner = ?", (site, self._me))

    def leave(self, db: sqlite3.Connection) -> None:
        """Give everything back."""
        _forget_owner(db, self._me)

    def held(self, site: str) -> set[str]:
        """Return the exits whose loss was not told of."""
        return set(self._held.get(site, ()))

    def wanted(self, db: sqlite3.Connection) -> set[str]:
        """Return the sites where others are short."""
        found = db.execute(
            "SELECT DISTINCT site FROM wants WHERE owner != ? AND until > ?",
            (self._me, self._clock()),
        )
        return {site for (site,) in found}

    def surplus(self, db: sqlite3.Connection, site: str) -> int:
        """Return how many exits this owner holds beyond an equal part, if others need them."""
        now = self._clock()
        wants = dict(
            db.execute(
                "SELECT owner, short FROM wants WHERE site = ? AND owner != ? AND until > ?",
                (site, self._me, now),
            )
        )
        if not wants:
            return 0
        live = self._unexpired(self._rivals(db))
        short: int = sum(number for owner, number in wants.items() if owner in live)
        known = {exit_ for (exit_,) in db.execute(_KNOWN_EXITS, (site, site))}
        equal = -(-len(known) // self._users(db, site, live))
        return min(short, max(0, len(self._held.get(site, ())) - equal))

    def admits(
        self,
        db: sqlite3.Connection,
        site: str,
        exit_: str,
        live: set[str],
        taken: dict[str, set[str]],
    ) -> bool:
        """Return whether this owner may write a session of an exit.

        An exit that nobody claims and this owner never did is added to ``taken``.
        """
        row = db.execute(
            "SELECT token, owner FROM claims WHERE site = ? AND exit = ?", (site, exit_)
        ).fetchone()
        token = self._tokens.get(site, {}).get(exit_)
        if token is not None:
            return row is not None and row[0] == token
        if row is not None and row[1] in live:
            return False
        taken.setdefault(site, set()).add(exit_)
        return True

    def speaks_for(self, db: sqlite3.Connection, site: str) -> bool:
        """Return whether this owner may write what was learnt of a site: not if it lost all."""
        tokens = self._tokens.get(site)
        if not tokens:
            return True
        query = "SELECT token FROM claims WHERE site = ? AND exit = ?"
        return any(
            db.execute(query, (site, exit_)).fetchone() == (token,)
            for exit_, token in tokens.items()
        )

    def take(self, db: sqlite3.Connection, taken: dict[str, set[str]]) -> int:
        """Claim exits that appeared with new sessions; returns their token."""
        self._stay(db)
        token = _next_token(db)
        for site, exits in taken.items():
            db.executemany(
                "UPDATE owners SET robbed = 1 WHERE id ="
                " (SELECT owner FROM claims WHERE site = ? AND exit = ?)",
                ((site, exit_) for exit_ in exits),
            )
            self._write(db, site, exits, token)
        return token

    def live(self, db: sqlite3.Connection) -> set[str]:
        """Return the other owners whose claims hold."""
        return self._unexpired(self._rivals(db))

    def keep(self, site: str, exits: set[str], token: int) -> None:
        """Remember what was granted and is committed."""
        self._held.setdefault(site, set()).update(exits)
        self._tokens.setdefault(site, {}).update(dict.fromkeys(exits, token))

    def drop(self, site: str, exits: Collection[str]) -> None:
        """No longer count exits as held: released, or their loss was told of."""
        self._held.get(site, set()).difference_update(exits)

    def forget(self, site: str, exit_: str) -> None:
        """Remove all memory of an exit that went with its only session."""
        self._held.get(site, set()).discard(exit_)
        self._tokens.get(site, {}).pop(exit_, None)

    def forget_all(self) -> None:
        """Start over, in a store that has lost its contents."""
        self._held.clear()
        self._tokens.clear()

    def _stay(self, db: sqlite3.Connection) -> None:
        """Prolong this owner's time; one that others thought dead must look for what they took."""
        db.execute(
            "INSERT INTO owners VALUES(?, ?, 1)"
            " ON CONFLICT(id) DO UPDATE SET until = excluded.until",
            (self._me, self._clock() + self._seconds),
        )

    def _rivals(self, db: sqlite3.Connection) -> dict[str, float]:
        """Return until when the claims of each other living owner hold."""
        rows = db.execute("SELECT id, until FROM owners WHERE id != ?", (self._me,)).fetchall()
        alive = self._owners.others() if rows else set()
        return {id_: until for id_, until in rows if id_ in alive}

    def _unexpired(self, rivals: dict[str, float]) -> set[str]:
        now = self._clock()
        return {id_ for id_, until in rivals.items() if until > now}

    def _bury(self, db: sqlite3.Connection, rivals: dict[str, float]) -> None:
        for (id_,) in db.execute("SELECT id FROM owners").fetchall():
            if id_ != self._me and id_ not in rivals:
                _forget_owner(db, id_)

    def _note_want(self, db: sqlite3.Connection, site: str, short: int) -> None:
        """Leave word, for `surplus`, of how many exits this owner lacks of an equal part."""
        if short > 0:
            self._stay(db)
            db.execute(
                "INSERT OR REPLACE INTO wants VALUES(?, ?, ?, ?)",
                (site, self._me, short, self._clock() + self._seconds),
            )
        else:
            db.execute("DELETE FROM wants WHERE site = ? AND owner = ?", (site, self._me))

    def _users(self, db: sqlite3.Connection, site: str, live: set[str]) -> int:
        """Return how many living owners, this one included, work on a site or want to."""
        query = (
            "SELECT owner FROM claims WHERE site = ? UNION SELECT owner FROM wants WHERE site = ?"
        )
        return len({owner for (owner,) in db.execute(query, (site, site))} & live) + 1

    def _write(self, db: sqlite3.Connection, site: str, exits: Collection[str], token: int) -> None:
        db.executemany(
            "INSERT OR REPLACE INTO claims VALUES(?, ?, ?, ?)",
            ((site, exit_, token, self._me) for exit_ in exits),
        )


_KNOWN_EXITS = (
    "SELECT exit FROM claims WHERE site = ? UNION SELECT exit FROM sessions WHERE site = ?"
)


def _forget_owner(db: sqlite3.Connection, id_: str) -> None:
    for table in ("claims", "wants", "batches"):
        db.execute(f"DELETE FROM {table} WHERE owner = ?", (id_,))  # noqa: S608 - our own names
    db.execute("DELETE FROM owners WHERE id = ?", (id_,))


def _last_token(db: sqlite3.Connection) -> int:
    (token,) = db.execute("SELECT value FROM meta WHERE key = 'token'").fetchone()
    return int(token)


def _next_token(db: sqlite3.Connection) -> int:
    db.execute("UPDATE meta SET value = value + 1 WHERE key = 'token'")
    return _last_token(db)
