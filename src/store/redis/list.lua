-- Rows by ascending id. Version 1.
-- KEYS  rows, ids
-- ARGV  from where, at most so many
-- Gives id and row in turn.

local ids = redis.call('ZRANGE', KEYS[2], ARGV[1], '+', 'BYLEX', 'LIMIT', 0, ARGV[2])
local found = {}
for _, id in ipairs(ids) do
  found[#found + 1] = id
  found[#found + 1] = redis.call('HGET', KEYS[1], id)
end
return found
