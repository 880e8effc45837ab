-- Look at some limits' counters and, when all of them have room, reserve in all of them. Nothing happens in between.
--
-- KEYS[1]: the request's mark, which makes this safe to repeat.
-- KEYS[2]: the version of the tenant's limits.
-- KEYS[3…]: two a rule, its counter and its leases.
-- ARGV: now (ms), lease (ms), request id, the rules as JSON, "reserve" or "look", the version that the rules are of.
-- A rule: kind "minute", "period" or "streams"; limit; cost; keep (ms after which the counter may go);
--         reset (ms until a period ends).
--
-- Answers {outcome, used, wait, reset, used, wait, reset, …}; outcome: "reserved", "over", "unseeded", "seen", or
-- {"stale"} when the limits have changed since.
--   used: before this request, with what is reserved; -1: not known, seed it from the database.
--   wait: ms until the cost fits; 0: now; -1: never.
--   reset: ms until nothing is counted any more.

local now, lease, request = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local rules, reserving = cjson.decode(ARGV[4]), ARGV[5] == 'reserve'
local WINDOW_S = 60
local second = math.floor(now / 1000)

-- A minute is a hash of what each second was charged. A second counts until 60 whole seconds after it have passed,
-- so that no 60 seconds, wherever they begin, hold more than the limit.
local function minute(rule, counter)
  local entries = redis.call('HGETALL', counter)
  local used, charged = 0, {}
  for i = 1, #entries, 2 do
    local at = tonumber(entries[i])
    if at < second - WINDOW_S then
      redis.call('HDEL', counter, entries[i])
    else
      local amount = tonumber(entries[i + 1])
      used = used + amount
      if amount > 0 then charged[#charged + 1] = {at, amount} end
    end
  end
  if #charged == 0 then return used, rule.cost > rule.limit and -1 or 0, 0 end
  table.sort(charged, function(a, b) return a[1] < b[1] end)
  local function gone(entry) return (entry[1] + WINDOW_S + 1) * 1000 - now end
  local reset = gone(charged[#charged])
  if used + rule.cost <= rule.limit then return used, 0, reset end
  local left = used
  for _, entry in ipairs(charged) do
    left = left - entry[2]
    if left + rule.cost <= rule.limit then return used, gone(entry), reset end
  end
  return used, -1, reset
end

-- A day or month is a hash {seed, added, held, seeding}: what the database knew, what was settled since, what is
-- reserved. seeding: somebody is about to ask the database, so what is settled from now on may be unknown to the answer.
local function period(rule, counter, leases)
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', now)) do
    redis.call('HINCRBY', counter, 'held', 0 - tonumber(string.match(member, '^%d+')))
    redis.call('ZREM', leases, member)
  end
  local found = redis.call('HMGET', counter, 'seed', 'added', 'held')
  if not found[1] then return -1, 0, rule.reset end
  local spent, held = tonumber(found[1]) + tonumber(found[2] or 0), tonumber(found[3] or 0)
  local wait = 0
  if rule.cost > rule.limit then
    wait = -1
  elseif spent + rule.cost > rule.limit then
    wait = rule.reset
  elseif spent + held + rule.cost > rule.limit then
    wait = 1000 -- Others' reservations may turn out larger than what they use.
  end
  return spent + held, wait, rule.reset
end

local function streams(rule, leases)
  redis.call('ZREMRANGEBYSCORE', leases, '-inf', now)
  local used = redis.call('ZCARD', leases)
  local wait = 0
  if rule.cost > rule.limit then wait = -1 elseif used + rule.cost > rule.limit then wait = 1000 end
  return used, wait, 0
end

local again = redis.call('EXISTS', KEYS[1]) == 1
if reserving and not again and redis.call('GET', KEYS[2]) ~= ARGV[6] then return {'stale'} end
local answer, over, unseeded = {'seen'}, false, false
for i, rule in ipairs(rules) do
  local counter, leases = KEYS[2 * i + 1], KEYS[2 * i + 2]
  local used, wait, reset
  if rule.kind == 'minute' then used, wait, reset = minute(rule, counter)
  elseif rule.kind == 'period' then used, wait, reset = period(rule, counter, leases)
  else used, wait, reset = streams(rule, leases) end
  over, unseeded = over or wait ~= 0, unseeded or used < 0
  answer[#answer + 1], answer[#answer + 2], answer[#answer + 3] = used, wait, reset
end
if not reserving then return answer end
if again then answer[1] = 'reserved' return answer end
if unseeded then
  for i, rule in ipairs(rules) do
    if rule.kind == 'period' and answer[3 * i - 1] < 0 then
      redis.call('HSET', KEYS[2 * i + 1], 'seeding', 1)
      redis.call('PEXPIRE', KEYS[2 * i + 1], rule.keep)
    end
  end
  answer[1] = 'unseeded'
  return answer
end
if over then answer[1] = 'over' return answer end

for i, rule in ipairs(rules) do
  local counter, leases = KEYS[2 * i + 1], KEYS[2 * i + 2]
  if rule.kind == 'minute' then
    redis.call('HINCRBY', counter, second, rule.cost)
    redis.call('PEXPIRE', counter, rule.keep)
  elseif rule.kind == 'period' then
    redis.call('HINCRBY', counter, 'held', rule.cost)
    redis.call('ZADD', leases, now + lease, string.format('%.0f:%s', rule.cost, request))
    redis.call('PEXPIRE', counter, rule.keep)
    redis.call('PEXPIRE', leases, rule.keep)
  else
    redis.call('ZADD', leases, now + lease, request)
    redis.call('PEXPIRE', leases, 2 * lease)
  end
end
redis.call('SET', KEYS[1], 'reserved', 'PX', 2 * lease)
answer[1] = 'reserved'
return answer
