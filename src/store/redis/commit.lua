-- Makes all changes or none. Version 1.
-- KEYS  generations, then two for each change: its table's rows and ids, or its log twice
-- ARGV  number of changes; for each: kind (p, d, a), name of the table or log, id, value, condition ('', 'absent' or a number)
-- Gives 'conflict', or what each change gives.

local changes = {}
for at = 1, tonumber(ARGV[1]) do
  local word = 1 + (at - 1) * 5
  changes[at] = {
    rows = KEYS[at * 2], ids = KEYS[at * 2 + 1], kind = ARGV[word + 1], table = ARGV[word + 2],
    id = ARGV[word + 3], value = ARGV[word + 4], expect = ARGV[word + 5],
  }
end

local function text(number)
  return string.format('%.0f', number)
end

for _, change in ipairs(changes) do
  local found
  if change.kind == 'a' then
    found = text(redis.call('LLEN', change.rows))
  else
    local row = redis.call('HGET', change.rows, change.id)
    found = row and string.match(row, '^%d+') or 'absent'
  end
  if change.expect ~= '' and change.expect ~= found then return 'conflict' end
end

local given = {}
for at, change in ipairs(changes) do
  if change.kind == 'a' then
    given[at] = redis.call('RPUSH', change.rows, change.value) - 1
  elseif change.kind == 'p' then
    given[at] = redis.call('HINCRBY', KEYS[1], change.table, 1)
    redis.call('HSET', change.rows, change.id, text(given[at]) .. ' ' .. change.value)
    redis.call('ZADD', change.ids, 0, change.id)
  else
    given[at] = 0
    if redis.call('HDEL', change.rows, change.id) == 1 then
      redis.call('ZREM', change.ids, change.id)
      redis.call('HINCRBY', KEYS[1], change.table, 1)
    end
  end
end
return given
