-- Adds to totals, once for each sequence. Version 1.
-- KEYS  sequences, sums, ids
-- ARGV  replica, sequence; then for each total its key, the number of its columns, and what is added to each
-- Gives whether it was added. Sums are the server's own 64 bits: a script's numbers would not hold them.

local last = redis.call('HGET', KEYS[1], ARGV[1])
if last and tonumber(last) >= tonumber(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
local at = 3
while at <= #ARGV do
  local id, width = ARGV[at], tonumber(ARGV[at + 1])
  redis.call('ZADD', KEYS[3], 0, id)
  local known = tonumber(redis.call('HGET', KEYS[2], id .. '\0n') or 0)
  if known < width then redis.call('HSET', KEYS[2], id .. '\0n', width) end
  for column = 1, width do
    local field, delta = id .. '\0' .. column, ARGV[at + 1 + column]
    if type(redis.pcall('HINCRBY', KEYS[2], field, delta)) == 'table' then
      local is_negative = string.sub(delta, 1, 1) == '-'
      redis.call('HSET', KEYS[2], field, is_negative and '-9223372036854775808' or '9223372036854775807')
    end
  end
  at = at + 2 + width
end
return 1
