"""What runs inside the Redis server: each script is one step that nobody sees half-done.

All keys begin with one hash tag, so that they lie together in a cluster. Times are the server's
own. Rows and states are opaque texts here: Lua's JSON would change them.

===============  ==========  ============================================================
key              type        holds
===============  ==========  ============================================================
``meta``         hash        schema version, epoch (new after a wipe), token, sessions
``sites``        set         keys of all sites
``owners``       sorted set  until when each owner's claims hold
``robbed``       set         owners that lost an exit and do not know yet
``s:SITE``       hash        session id: row
``x:SITE``       hash        session id: exit
``c:SITE``       hash        exit: token of its last claim, and owner (none: released)
``w:SITE``       hash        owner: how many exits it lacks, until when it wants them
``gone:SITE``    sorted set  removed session ids, by time of removal
``t:SITE``       hash        learnt state, a JSON text for each of its keys
``endpoints``    hash        endpoint key: state
``b:OWNER``      list        token and id of its last batches
===============  ==========  ============================================================
"""

from __future__ import annotations

_PRELUDE = """
local P, me = KEYS[1] .. ':', ARGV[2]
if redis.call('HGET', P .. 'meta', 'epoch') ~= ARGV[1] then return {'wiped'} end
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local live_ = {}
local function live(owner)
  if live_[owner] == nil then
    local score = redis.call('ZSCORE', P .. 'owners', owner)
    live_[owner] = score and tonumber(score) > now or false
  end
  return live_[owner]
end
local function stay()
  redis.call('ZADD', P .. 'owners', now + tonumber(ARGV[3]), me)
end
local function split(claim)
  local token, owner = string.match(claim, '^(%d+) (.*)$')
  return token, owner
end
local function users(site)
  local found, count = {}, 1
  local function add(owner)
    if owner ~= me and not found[owner] and live(owner) then
      found[owner] = true
      count = count + 1
    end
  end
  for _, claim in ipairs(redis.call('HVALS', P .. 'c:' .. site)) do
    local _, owner = split(claim)
    add(owner)
  end
  for _, owner in ipairs(redis.call('HKEYS', P .. 'w:' .. site)) do add(owner) end
  return count
end
"""

JOIN = """
local P = KEYS[1] .. ':'
redis.call('HSETNX', P .. 'meta', 'version', ARGV[2])
redis.call('HSETNX', P .. 'meta', 'epoch', ARGV[1])
return redis.call('HMGET', P .. 'meta', 'version', 'epoch')
"""
"""(a new epoch, schema version) -> version and epoch that hold. Needs no prelude."""

CLAIM = (
    _PRELUDE
    + """
local site, most, cap, again = ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7] == '1'
if redis.call('SISMEMBER', P .. 'robbed', me) == 1 then return {'robbed'} end
stay()
redis.call('ZREMRANGEBYSCORE', P .. 'owners', '-inf', now - 86400)
local rivals = redis.call('ZCOUNT', P .. 'owners', '(' .. string.format('%.6f', now), '+inf') - 1
local claims, seen, known, held = {}, {}, 0, 0
local flat = redis.call('HGETALL', P .. 'c:' .. site)
for i = 1, #flat, 2 do
  claims[flat[i]] = flat[i + 1]
  seen[flat[i]] = true
  known = known + 1
end
local last = 8 + tonumber(ARGV[8])
local barred = {}
for i = 9, last do barred[ARGV[i]] = true end
local free, looked = {}, {}
local function offer(exit)
  if looked[exit] then return end
  looked[exit] = true
  if not seen[exit] then known = known + 1 end
  local token, owner = '', ''
  if claims[exit] then token, owner = split(claims[exit]) end
  if owner == me and not again then
    held = held + 1
  elseif not barred[exit] and (owner == me or owner == '' or not live(owner)) then
    free[#free + 1] = exit
  end
end
local saved = redis.call('HGETALL', P .. 'x:' .. site)
for i = 2, #saved, 2 do offer(saved[i]) end
for i = last + 1, #ARGV do offer(ARGV[i]) end
local share = math.ceil(#free / (rivals + 1))
if most >= 0 then share = math.min(share, most) end
local count = math.min(share, cap)
local goal = math.floor(known / users(site))
if most >= 0 then goal = math.min(goal, held + most) end
local short = goal - held - share
if short > 0 then
  redis.call('HSET', P .. 'w:' .. site, me, short .. ' ' .. (now + tonumber(ARGV[3])))
else
  redis.call('HDEL', P .. 'w:' .. site, me)
end
local token = tonumber(redis.call('HGET', P .. 'meta', 'token') or 0)
if count == 0 then return {token, {}, {}, 0} end
token = redis.call('HINCRBY', P .. 'meta', 'token', 1)
local granted, mine = {}, {}
for i = 1, count do
  local exit = free[i]
  granted[i], mine[exit] = exit, true
  if claims[exit] then
    local _, owner = split(claims[exit])
    if owner ~= me and redis.call('ZSCORE', P .. 'owners', owner) then
      redis.call('SADD', P .. 'robbed', owner)
    end
  end
  redis.call('HSET', P .. 'c:' .. site, exit, token .. ' ' .. me)
end
local ids = {}
for i = 1, #saved, 2 do
  if mine[saved[i + 1]] then ids[#ids + 1] = saved[i] end
end
return {token, granted, ids, share - count}
"""
)
"""(epoch, owner, seconds, site, most or -1, cap, again, number barred, barred..., offered...) ->
token, exits granted, ids of the sessions on them, how many more may be granted.

``again``: grant also what this owner claims already (the reply of an earlier call was lost).
"""

RENEW = (
    _PRELUDE
    + """
local unknown = redis.call('ZSCORE', P .. 'owners', me) == false
stay()
return {redis.call('SREM', P .. 'robbed', me) == 1 or unknown and 1 or 0}
"""
)
"""(epoch, owner, seconds) -> 1 if an exit may have been lost."""

RELEASE = (
    _PRELUDE
    + """
local site = ARGV[4]
for i = 5, #ARGV do
  local claim = redis.call('HGET', P .. 'c:' .. site, ARGV[i])
  if claim then
    local token, owner = split(claim)
    if owner == me then redis.call('HSET', P .. 'c:' .. site, ARGV[i], token .. ' ') end
  end
end
redis.call('HDEL', P .. 'w:' .. site, me)
return {1}
"""
)
"""(epoch, owner, seconds, site, exits...)"""

LEAVE = (
    _PRELUDE
    + """
redis.call('ZREM', P .. 'owners', me)
redis.call('SREM', P .. 'robbed', me)
redis.call('DEL', P .. 'b:' .. me)
return {1}
"""
)
"""(epoch, owner): whoever is not among the owners claims nothing."""

SURPLUS = (
    _PRELUDE
    + """
local site, held, short = ARGV[4], tonumber(ARGV[5]), 0
local wants = redis.call('HGETALL', P .. 'w:' .. site)
for i = 1, #wants, 2 do
  local number, until_ = string.match(wants[i + 1], '^(%d+) (.*)$')
  if wants[i] ~= me and tonumber(until_) > now and live(wants[i]) then short = short + number end
end
if short == 0 then return {0} end
local known, count = {}, 0
local function add(exit)
  if not known[exit] then
    known[exit] = true
    count = count + 1
  end
end
for _, exit in ipairs(redis.call('HKEYS', P .. 'c:' .. site)) do add(exit) end
for _, exit in ipairs(redis.call('HVALS', P .. 'x:' .. site)) do add(exit) end
return {math.max(0, math.min(short, held - math.ceil(count / users(site))))}
"""
)
"""(epoch, owner, seconds, site, number held) -> how many to give back."""

APPLY = (
    _PRELUDE
    + """
local batch, limit = ARGV[4], tonumber(ARGV[5])
for _, done in ipairs(redis.call('LRANGE', P .. 'b:' .. me, 0, -1)) do
  local token, id = split(done)
  if id == batch then return {'done', tonumber(token)} end
end
local token, taken, refused, full = 0, {}, 0, 0
local function take(site, exit)
  if token == 0 then
    token = redis.call('HINCRBY', P .. 'meta', 'token', 1)
    stay()
  end
  redis.call('HSET', P .. 'c:' .. site, exit, token .. ' ' .. me)
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
local put = {}
function put.session(site, id, exit, mine, row)
  local sessions = P .. 's:' .. site
  if redis.call('ZSCORE', P .. 'gone:' .. site, id) or not admits(site, exit, mine) then
    refused = refused + 1
    return
  end
  if redis.call('HEXISTS', sessions, id) == 0 then
    if tonumber(redis.call('HGET', P .. 'meta', 'sessions') or 0) >= limit then
      full = full + 1
      return
    end
    redis.call('HINCRBY', P .. 'meta', 'sessions', 1)
    redis.call('SADD', P .. 'sites', site)
  end
  redis.call('HSET', sessions, id, row)
  redis.call('HSET', P .. 'x:' .. site, id, exit)
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
    if exit == id then redis.call('HDEL', P .. 'c:' .. site, exit) end
  end
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
return {'new', token, refused, full, taken}
"""
)
"""(epoch, owner, seconds, batch id, most sessions, then changes: name, number of values, values) ->
whether it is new, the token of what was claimed with it, numbers refused and too many, and what was
claimed, as site, exit, site, exit.
"""
