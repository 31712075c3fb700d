"""What runs inside the Redis server: each script is one step that nobody sees half-done.

All keys begin with one hash tag, so that they lie together in a cluster. Times are the server's
own. Rows and states are opaque texts here: Lua's JSON would change them.

===============  ==========  ============================================================
key              type        holds
===============  ==========  ============================================================
``meta``         hash        schema version, epoch (new after a wipe), until when the owners of
                             before are waited for, token, sessions
``sites``        set         keys of all sites
``owners``       sorted set  until when each owner's claims hold
``robbed``       set         owners that lost an exit and do not know yet
``s:SITE``       hash        session id: row
``x:SITE``       hash        session id: exit
``e:SITE``       hash        exit: ids of the sessions on it, joined by NUL
``c:SITE``       hash        exit: token of its last claim, and owner (none: released)
``f:SITE``       set         free exits with sessions
``u:SITE``       set         owners with claims
``h:OWNER:SITE`` set         exits that an owner holds
``w:SITE``       hash        owner: how many exits it lacks, until when it wants them
``wanted``       set         sites that have a ``w:SITE``
``gone:SITE``    sorted set  removed session ids, by time of removal
``t:SITE``       hash        learnt state, a JSON text for each of its keys
``endpoints``    hash        endpoint key: state
``b:OWNER``      list        token and id of its last batches
===============  ==========  ============================================================
"""

from __future__ import annotations

PRELUDE = """
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
local function held_by(owner, site) return P .. 'h:' .. owner .. ':' .. site end
local function hold(site, exit, token)
  local claim = redis.call('HGET', P .. 'c:' .. site, exit)
  if claim then
    local _, owner = split(claim)
    if owner ~= '' and owner ~= me and redis.call('SREM', held_by(owner, site), exit) == 1
        and redis.call('ZSCORE', P .. 'owners', owner) then
      redis.call('SADD', P .. 'robbed', owner)
    end
  end
  redis.call('HSET', P .. 'c:' .. site, exit, token .. ' ' .. me)
  redis.call('SADD', held_by(me, site), exit)
  redis.call('SADD', P .. 'u:' .. site, me)
  redis.call('SREM', P .. 'f:' .. site, exit)
end
local function free_up(site, exits, former)
  local claims, freed = redis.call('HMGET', P .. 'c:' .. site, unpack(exits)), {}
  local written, saved = {}, {}
  for i, claim in ipairs(claims) do
    local token, owner = '', ''
    if claim then token, owner = split(claim) end
    if owner == former then
      freed[#freed + 1] = exits[i]
      written[#written + 1] = exits[i]
      written[#written + 1] = token .. ' '
    end
  end
  if #freed == 0 then return end
  redis.call('HSET', P .. 'c:' .. site, unpack(written))
  for i, ids in ipairs(redis.call('HMGET', P .. 'e:' .. site, unpack(freed))) do
    if ids then saved[#saved + 1] = freed[i] end
  end
  if #saved > 0 then redis.call('SADD', P .. 'f:' .. site, unpack(saved)) end
end
local function known(site)
  local count = redis.call('SCARD', P .. 'f:' .. site)
  for _, owner in ipairs(redis.call('SMEMBERS', P .. 'u:' .. site)) do
    count = count + redis.call('SCARD', held_by(owner, site))
  end
  return count
end
local function users(site)
  local found, count = {[me] = true}, 1
  for _, key in ipairs({'u:', 'w:'}) do
    local list = key == 'u:' and 'SMEMBERS' or 'HKEYS'
    for _, owner in ipairs(redis.call(list, P .. key .. site)) do
      if not found[owner] and live(owner) then
        found[owner] = true
        count = count + 1
      end
    end
  end
  return count
end
"""
"""What each script begins with; it needs (epoch, owner, seconds that a claim holds, ...)."""

JOIN = """
local P = KEYS[1] .. ':'
redis.call('HSETNX', P .. 'meta', 'version', ARGV[2])
if redis.call('HSETNX', P .. 'meta', 'epoch', ARGV[1]) == 1 then
  redis.call('HSET', P .. 'meta', 'calm', redis.call('TIME')[1] + ARGV[3])
end
return redis.call('HMGET', P .. 'meta', 'version', 'epoch')
"""
"""(a new epoch, schema version, seconds) -> version and epoch that hold. Needs no prelude.

In a store that was empty nothing is granted for so many seconds, but to those who had it before.
"""

CLAIM = (
    PRELUDE
    + """
local site, most, cap, goes_on = ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7] == '1'
if redis.call('SISMEMBER', P .. 'robbed', me) == 1 then return {'robbed'} end
stay()
redis.call('ZREMRANGEBYSCORE', P .. 'owners', '-inf', now - 86400)
local claims, budget = P .. 'c:' .. site, cap
local rivals = redis.call('ZCOUNT', P .. 'owners', '(' .. string.format('%.6f', now), '+inf') - 1
local former = tonumber(ARGV[8])
local last = 9 + tonumber(ARGV[9])
local calm = tonumber(redis.call('HGET', P .. 'meta', 'calm') or 0) <= now
local barred = {}
for i = 10, last do barred[ARGV[i]] = true end
local granted, ids, token = {}, {}, nil
local function grant(exits, saved)  -- at most 500, as unpack bears no more at once
  token = token or redis.call('HINCRBY', P .. 'meta', 'token', 1)
  local written, claim = {}, token .. ' ' .. me
  for i, exit in ipairs(exits) do
    granted[#granted + 1] = exit
    written[2 * i - 1], written[2 * i] = exit, claim
    if saved[i] then
      for id in string.gmatch(saved[i], '[^%z]+') do ids[#ids + 1] = id end
    end
  end
  redis.call('HSET', claims, unpack(written))
  redis.call('SADD', held_by(me, site), unpack(exits))
  redis.call('SADD', P .. 'u:' .. site, me)
end
local function inherit(exits)
  local mine, saved, others = {}, {}, {}
  for i, found in ipairs(redis.call('HMGET', P .. 'e:' .. site, unpack(exits))) do
    if found and not barred[exits[i]] then
      mine[#mine + 1], saved[#saved + 1] = exits[i], found
    else
      others[#others + 1] = exits[i]
    end
  end
  if #mine > 0 then grant(mine, saved) end
  return others
end
for _, owner in ipairs(redis.call('SMEMBERS', P .. 'u:' .. site)) do
  if owner ~= me and not live(owner) and budget > 0 then
    local gone = redis.call('SPOP', held_by(owner, site), budget)
    budget = budget - #gone
    for i = 1, #gone, 500 do
      local some = {unpack(gone, i, math.min(i + 499, #gone))}
      if calm and rivals == 0 and most < 0 then some = inherit(some) end
      if #some > 0 then free_up(site, some, owner) end
    end
    if redis.call('ZSCORE', P .. 'owners', owner) then
      redis.call('SADD', P .. 'robbed', owner)
    end
    if redis.call('SCARD', held_by(owner, site)) == 0 then
      redis.call('SREM', P .. 'u:' .. site, owner)
    end
  end
end
if budget <= 0 then
  if token then return {token, granted, ids, -1, 0} end
  return {'more'}
end
local held = redis.call('SCARD', held_by(me, site))
local put_back = {}
for i = 10, last do
  if redis.call('SREM', P .. 'f:' .. site, ARGV[i]) == 1 then put_back[#put_back + 1] = ARGV[i] end
end
local others, looked = {}, {}
local function offer(exit)
  if looked[exit] or barred[exit] or redis.call('SISMEMBER', P .. 'f:' .. site, exit) == 1 then
    return
  end
  looked[exit] = true
  local claim = redis.call('HGET', claims, exit)
  local owner = ''
  if claim then claim, owner = split(claim) end
  if owner == '' then others[#others + 1] = exit end
end
for i = last + 1, calm and #ARGV or last + former do offer(ARGV[i]) end
local saved = calm and redis.call('SCARD', P .. 'f:' .. site) or 0
local share = math.ceil((saved + #others) / (rivals + 1))
if most >= 0 then share = math.min(share, most) end
local count = math.min(share, cap)
local goal = math.floor((known(site) + #others) / users(site))
if most >= 0 then goal = math.min(goal, held + most) end
local short = goal - held - share
if goes_on then short = 0
elseif short > 0 then
  redis.call('HSET', P .. 'w:' .. site, me, short .. ' ' .. (now + tonumber(ARGV[3])))
  redis.call('SADD', P .. 'wanted', site)
else
  redis.call('HDEL', P .. 'w:' .. site, me)
end
if count > 0 then
  local some = calm and redis.call('SPOP', P .. 'f:' .. site, count) or {}
  for i = 1, count - #some do some[#some + 1] = others[i] end
  for i = 1, #some, 500 do  -- nobody else claims any of these
    local exits = {unpack(some, i, math.min(i + 499, #some))}
    grant(exits, redis.call('HMGET', P .. 'e:' .. site, unpack(exits)))
  end
end
token = token or tonumber(redis.call('HGET', P .. 'meta', 'token') or 0)
for _, exit in ipairs(put_back) do redis.call('SADD', P .. 'f:' .. site, exit) end
return {token, granted, ids, share - count, math.max(calm and 0 or 1, short)}
"""
)
"""(epoch, owner, seconds, site, most or -1, cap, goes on, number of those offered that this owner had
before the store was emptied, number barred, barred..., offered...)
-> token, exits granted, ids of the sessions on them, how many more may be granted now (-1: all),
how many lack of an equal part; or ``more``: there are dead owners' claims left to clear; or
``robbed``: find out about losses first. Who is alone takes over what the dead have left.

``goes on``: the rest of a share that was too large for one step.
"""

HELD = (
    PRELUDE
    + """
return redis.call('SSCAN', held_by(me, ARGV[4]), ARGV[5], 'COUNT', 500)
"""
)
"""(epoch, owner, seconds, site, cursor) -> next cursor (0: that was all), some exits that are held."""

RENEW = (
    PRELUDE
    + """
local unknown = redis.call('ZSCORE', P .. 'owners', me) == false
stay()
return {redis.call('SREM', P .. 'robbed', me) == 1 or unknown and 1 or 0}
"""
)
"""(epoch, owner, seconds) -> 1 if an exit may have been lost."""

RELEASE = (
    PRELUDE
    + """
local site = ARGV[4]
for i = 5, #ARGV, 500 do
  local some = {unpack(ARGV, i, math.min(i + 499, #ARGV))}
  redis.call('SREM', held_by(me, site), unpack(some))
  free_up(site, some, me)
end
if redis.call('SCARD', held_by(me, site)) == 0 then redis.call('SREM', P .. 'u:' .. site, me) end
redis.call('HDEL', P .. 'w:' .. site, me)
return {1}
"""
)
"""(epoch, owner, seconds, site, exits...)"""

KEEP = (
    PRELUDE
    + """
local site, lost = ARGV[4], {}
for i = 5, #ARGV, 2 do
  local exit, claim = ARGV[i], redis.call('HGET', P .. 'c:' .. site, ARGV[i])
  local token, owner = '', ''
  if claim then token, owner = split(claim) end
  if token ~= ARGV[i + 1] or owner ~= me and owner ~= '' then lost[#lost + 1] = exit
  elseif owner == '' then hold(site, exit, token) end
end
return lost
"""
)
"""(epoch, owner, seconds, site, then exit, token, ...) -> those lost; what ran out but nobody took
is held again.
"""

LEAVE = (
    PRELUDE
    + """
redis.call('ZREM', P .. 'owners', me)
redis.call('SREM', P .. 'robbed', me)
redis.call('DEL', P .. 'b:' .. me)
return {1}
"""
)
"""(epoch, owner): whoever is not among the owners claims nothing."""

WANTED = (
    PRELUDE
    + """
local sites = {}
for _, site in ipairs(redis.call('SMEMBERS', P .. 'wanted')) do
  local others = 0
  local wants = redis.call('HGETALL', P .. 'w:' .. site)
  for i = 1, #wants, 2 do
    local until_ = tonumber(string.match(wants[i + 1], ' (.*)$'))
    if until_ <= now then redis.call('HDEL', P .. 'w:' .. site, wants[i])
    elseif wants[i] ~= me and live(wants[i]) then others = others + 1 end
  end
  if others > 0 then sites[#sites + 1] = site
  elseif redis.call('EXISTS', P .. 'w:' .. site) == 0 then redis.call('SREM', P .. 'wanted', site)
  end
end
return sites
"""
)
"""(epoch, owner, seconds) -> sites where others lack exits."""

SURPLUS = (
    PRELUDE
    + """
local site, held, short = ARGV[4], tonumber(ARGV[5]), 0
local wants = redis.call('HGETALL', P .. 'w:' .. site)
for i = 1, #wants, 2 do
  local number, until_ = string.match(wants[i + 1], '^(%d+) (.*)$')
  if wants[i] ~= me and tonumber(until_) > now and live(wants[i]) then short = short + number end
end
if short == 0 then return {0} end
return {math.max(0, math.min(short, held - math.ceil(known(site) / users(site))))}
"""
)
"""(epoch, owner, seconds, site, number held) -> how many to give back."""
