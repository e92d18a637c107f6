-- Totals by ascending key. Version 1.
-- KEYS  sums, ids
-- ARGV  from where, to where, at most so many
-- Gives for each its key, then its columns.

local ids = redis.call('ZRANGE', KEYS[2], ARGV[1], ARGV[2], 'BYLEX', 'LIMIT', 0, ARGV[3])
local found = {}
for at, id in ipairs(ids) do
  found[at] = { id }
  for column = 1, tonumber(redis.call('HGET', KEYS[1], id .. '\0n') or 0) do
    found[at][column + 1] = redis.call('HGET', KEYS[1], id .. '\0' .. column) or '0'
  end
end
return found
