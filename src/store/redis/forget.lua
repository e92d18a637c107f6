-- Forgets totals. Version 1.
-- KEYS  sums, ids
-- ARGV  their keys

for _, id in ipairs(ARGV) do
  for column = 1, tonumber(redis.call('HGET', KEYS[1], id .. '\0n') or 0) do
    redis.call('HDEL', KEYS[1], id .. '\0' .. column)
  end
  redis.call('HDEL', KEYS[1], id .. '\0n')
  redis.call('ZREM', KEYS[2], id)
end
return 1
