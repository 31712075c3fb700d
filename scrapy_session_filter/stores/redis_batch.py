"""A batch of changes: the server's script, and what it takes: bounded parts, each applied once."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from scrapy_session_filter.exceptions import InvalidRow
from scrapy_session_filter.stores.base import MAX_ROW_BYTES, MAX_STATE_BYTES
from scrapy_session_filter.stores.codec import encode, row_key, text_key
from scrapy_session_filter.stores.redis_scripts import PRELUDE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from scrapy_session_filter.session import Row
    from scrapy_session_filter.stores.base import Batch

logger = logging.getLogger(__name__)

APPLY = (
    PRELUDE
    + """
local batch, limit = ARGV[4], tonumber(ARGV[5])
for _, done in ipairs(redis.call('LRANGE', P .. 'b:' .. me, 0, -1)) do
  local token, id = split(done)
  if id == batch then return {'done', tonumber(token)} end
end
local token, taken, gone, refused, full = 0, {}, {}, 0, 0
local function take(site, exit)
  if token == 0 then
    token = redis.call('HINCRBY', P .. 'meta', 'token', 1)
    stay()
  end
  hold(site, exit, token)
  taken[#taken + 1] = site
  taken[#taken + 1] = exit
end
local function admits(site, exit, mine)
  local claim = redis.call('HGET', P .. 'c:' .. site, exit)
  local held, owner = false, ''
  if claim then held, owner = split(claim) end
  if mine ~= '' then return held == mine end
  return owner == '' or owner == me or not live(owner)
end
local function unlink(site, id, exit)
  local left = {}
  for other in string.gmatch(redis.call('HGET', P .. 'e:' .. site, exit) or '', '[^%z]+') do
    if other ~= id then left[#left + 1] = other end
  end
  if #left > 0 then redis.call('HSET', P .. 'e:' .. site, exit, table.concat(left, '\\0'))
  else
    redis.call('HDEL', P .. 'e:' .. site, exit)
    redis.call('SREM', P .. 'f:' .. site, exit)
  end
end
local function link(site, id, exit)
  local ids = redis.call('HGET', P .. 'e:' .. site, exit)
  redis.call('HSET', P .. 'e:' .. site, exit, ids and ids .. '\\0' .. id or id)
  local claim = redis.call('HGET', P .. 'c:' .. site, exit)
  local owner = ''
  if claim then claim, owner = split(claim) end
  if owner == '' then redis.call('SADD', P .. 'f:' .. site, exit) end
end
local put = {}
function put.session(site, id, exit, mine, row)
  local sessions, before = P .. 's:' .. site, redis.call('HGET', P .. 'x:' .. site, id)
  if redis.call('ZSCORE', P .. 'gone:' .. site, id) or not admits(site, exit, mine) then
    refused = refused + 1
    return
  end
  if not before then
    if tonumber(redis.call('HGET', P .. 'meta', 'sessions') or 0) >= limit then
      full = full + 1
      return
    end
    redis.call('HINCRBY', P .. 'meta', 'sessions', 1)
    redis.call('SADD', P .. 'sites', site)
  end
  redis.call('HSET', sessions, id, row)
  redis.call('HSET', P .. 'x:' .. site, id, exit)
  if before ~= exit then
    if before then unlink(site, id, before) end
    link(site, id, exit)
  end
  if mine == '' then take(site, exit) end
end
function put.removal(site, id, mine)
  local exit = redis.call('HGET', P .. 'x:' .. site, id)
  if exit then
    if not admits(site, exit, mine) then
      refused = refused + 1
      return
    end
    redis.call('HDEL', P .. 's:' .. site, id)
    redis.call('HDEL', P .. 'x:' .. site, id)
    redis.call('HINCRBY', P .. 'meta', 'sessions', -1)
    unlink(site, id, exit)
    if exit == id then
      redis.call('HDEL', P .. 'c:' .. site, exit)
      redis.call('SREM', held_by(me, site), exit)
    end
  end
  gone[#gone + 1] = site
  gone[#gone + 1] = id
  redis.call('ZADD', P .. 'gone:' .. site, now, id)
  redis.call('ZREMRANGEBYSCORE', P .. 'gone:' .. site, '-inf', now - 86400)
end
function put.site(site, tokens, ...)
  local values = {...}
  local speaks = tonumber(tokens) == 0
  for i = 1, 2 * tokens, 2 do speaks = speaks or admits(site, values[i], values[i + 1]) end
  if not speaks then
    refused = refused + 1
    return
  end
  redis.call('SADD', P .. 'sites', site)
  for i = 2 * tokens + 1, #values, 2 do
    if values[i + 1] == '' then redis.call('HDEL', P .. 't:' .. site, values[i])
    else redis.call('HSET', P .. 't:' .. site, values[i], values[i + 1]) end
  end
end
function put.endpoint(key, value)
  redis.call('HSET', P .. 'endpoints', key, value)
end
local at = 6
while at <= #ARGV do
  local count = tonumber(ARGV[at + 1])
  put[ARGV[at]](unpack(ARGV, at + 2, at + 1 + count))
  at = at + 2 + count
end
redis.call('LPUSH', P .. 'b:' .. me, token .. ' ' .. batch)
redis.call('LTRIM', P .. 'b:' .. me, 0, 63)
redis.call('EXPIRE', P .. 'b:' .. me, 86400)
return {'new', token, refused, full, taken, gone}
"""
)
"""(epoch, owner, seconds, batch id, most sessions, then changes: name, number of values, values) ->
whether it is new, the token of what was claimed with it, numbers refused and too many, and what was
claimed (site, exit, site, exit) and removed (site, id, site, id).
"""

_PART_BYTES = 512 * 1024
_PART_CHANGES = 500
_WITNESSES = 100  # claims that are looked at to tell whether an owner still has any of a site

Tokens = dict[str, dict[str, int]]
Exits = dict[tuple[str, str], str]


@dataclass(slots=True)
class Part:
    """One step of a batch.

    ``values`` are the script's, ``new_exits`` what it may claim, ``removed`` the removals in it.
    """

    id: str
    values: list[str | bytes | int] = field(default_factory=list, repr=False)
    new_exits: list[tuple[str, str]] = field(default_factory=list)
    removed: list[tuple[str, str]] = field(default_factory=list)
    changes: int = 0
    length: int = 0

    def add(self, name: str, *values: str | bytes | int, length: int = 0) -> None:
        """Append a change whose data has ``length`` bytes."""
        self.values += (name, len(values), *values)
        self.changes += 1
        self.length += length

    @property
    def full(self) -> bool:
        """Whether the next change belongs into another part."""
        return self.changes >= _PART_CHANGES or self.length >= _PART_BYTES


def parts(batch: Batch, tokens: Tokens, held: dict[str, set[str]], exits: Exits) -> Iterator[Part]:
    """Yield a batch in parts; how it is cut depends on the batch alone, so a retry is the same.

    ``tokens`` and ``held`` are the owner's by site, ``exits`` those of sessions by site and id.
    What breaks a limit is left out with a warning.
    """
    number = 0
    part = Part(f"{batch.id}/0")
    for write in _changes(batch, tokens, held, exits):
        write(part)
        if part.full:
            yield part
            number += 1
            part = Part(f"{batch.id}/{number}")
    yield part


def _changes(
    batch: Batch, tokens: Tokens, held: dict[str, set[str]], exits: Exits
) -> Iterator[Callable[[Part], None]]:
    for row in batch.sessions:
        yield partial(_session, row=row, tokens=tokens)
    for site, id_ in batch.removed:
        token = tokens.get(site, {}).get(exits.get((site, id_), id_))
        yield partial(_removal, site=site, id_=id_, token=token)
    for site, state in batch.sites.items():
        known = tokens.get(site, {})
        names = islice(chain(held.get(site, ()), known), _WITNESSES)
        witnesses = {name: known[name] for name in names}
        yield from (
            partial(_site, site=site, items=some, witnesses=witnesses)
            for some in _portions(site, state)
        )
    for key, state in batch.endpoints.items():
        yield partial(_endpoint, key=key, state=state)


def _session(part: Part, row: Row, tokens: Tokens) -> None:
    try:
        site, id_, exit_ = row_key(row)
        data = encode(row, MAX_ROW_BYTES)
    except InvalidRow as error:
        logger.warning("Session %r is not saved: %s", row.get("id"), error)
        return
    token = tokens.get(site, {}).get(exit_)
    if token is None:
        part.new_exits.append((site, exit_))
    part.add("session", site, id_, exit_, _name(token), data, length=len(data))


def _removal(part: Part, site: str, id_: str, token: int | None) -> None:
    part.removed.append((site, id_))
    part.add("removal", site, id_, _name(token))


def _portions(site: str, state: dict[str, Any]) -> Iterator[dict[str, str]]:
    """Yield a site's state as texts by key, some at a time; an empty text removes."""
    try:
        text_key(site)
        encode(state, MAX_STATE_BYTES)
    except InvalidRow as error:
        logger.warning("The state of a site is not saved: %s", error)
        return
    texts = {
        key: "" if item is None else json.dumps(item, separators=(",", ":"))
        for key, item in state.items()
    }
    keys = list(texts)
    for start in range(0, len(keys), _PART_CHANGES):
        yield {key: texts[key] for key in keys[start : start + _PART_CHANGES]}


def _site(part: Part, site: str, items: dict[str, str], witnesses: dict[str, int]) -> None:
    tokens = chain.from_iterable((name, str(token)) for name, token in witnesses.items())
    values = chain.from_iterable(items.items())
    length = sum(map(len, items.values()))
    part.add("site", site, len(witnesses), *tokens, *values, length=length)


def _endpoint(part: Part, key: str, state: dict[str, Any]) -> None:
    try:
        data = encode(state, MAX_ROW_BYTES)
        part.add("endpoint", text_key(key), data, length=len(data))
    except InvalidRow as error:
        logger.warning("The state of an endpoint is not saved: %s", error)


def _name(token: int | None) -> str:
    return "" if token is None else str(token)
