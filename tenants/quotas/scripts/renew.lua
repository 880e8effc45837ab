-- Keep a reservation's leases; take them anew where Valkey lost them. A settled one stays settled.
--
-- KEYS as in reserve.lua. ARGV: now (ms), lease (ms), request id, the rules as JSON.

local now, lease, request = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
if redis.call('GET', KEYS[1]) == 'settled' then return 0 end
redis.call('SET', KEYS[1], 'reserved', 'PX', 2 * lease)

for i, rule in ipairs(cjson.decode(ARGV[4])) do
  local counter, leases = KEYS[2 * i + 1], KEYS[2 * i + 2]
  if rule.kind == 'period' then
    if redis.call('ZADD', leases, now + lease, string.format('%.0f:%s', rule.cost, request)) == 1 then
      redis.call('HINCRBY', counter, 'held', rule.cost)
    end
    redis.call('PEXPIRE', counter, rule.keep)
    redis.call('PEXPIRE', leases, rule.keep)
  elseif rule.kind == 'streams' then
    redis.call('ZADD', leases, now + lease, request)
    redis.call('PEXPIRE', leases, 2 * lease)
  end
end
return 1
