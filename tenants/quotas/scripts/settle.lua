-- Give a reservation back and count what was used. Repeating it changes nothing.
--
-- KEYS as in reserve.lua. ARGV: request id, tokens used, ms that the mark stays, the rules as JSON.
-- A rule has in addition: at (the second that it was charged to), counts (whether it counts tokens).

local request, used = ARGV[1], tonumber(ARGV[2])
if redis.call('GET', KEYS[1]) == 'settled' then return 0 end
redis.call('SET', KEYS[1], 'settled', 'PX', ARGV[3])

for i, rule in ipairs(cjson.decode(ARGV[4])) do
  local counter, leases = KEYS[2 * i + 1], KEYS[2 * i + 2]
  if rule.kind == 'minute' then
    -- A second that has passed out of the minute stays out of it.
    if rule.counts and redis.call('HEXISTS', counter, rule.at) == 1 then
      redis.call('HINCRBY', counter, rule.at, used - rule.cost)
    end
  elseif rule.kind == 'period' then
    -- A lease that ran out has given its tokens back already.
    if redis.call('ZREM', leases, string.format('%.0f:%s', rule.cost, request)) == 1 then
      redis.call('HINCRBY', counter, 'held', 0 - rule.cost)
    end
    -- Where there is no counter, the database will tell of this when one is seeded.
    if redis.call('HEXISTS', counter, 'seed') == 1 or redis.call('HEXISTS', counter, 'seeding') == 1 then
      redis.call('HINCRBY', counter, 'added', used)
      redis.call('PEXPIRE', counter, rule.keep)
    end
  else
    redis.call('ZREM', leases, request)
  end
end
return 1
