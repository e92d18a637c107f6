-- Makes all changes or none. Version 2.
-- KEYS  generations, then three for each change: its table's rows, ids and changes, or its log three times
-- ARGV  number of changes, a word by which this commit is known, how many changes of a table are remembered;
--       for each: kind (p, d, a), name of the table or log, id, value, condition ('', 'absent' or a number)
-- Gives 'conflict', or what each change gives.

local changes = {}
for at = 1, tonumber(ARGV[1]) do
  local word, key = 3 + (at - 1) * 5, 2 + (at - 1) * 3
  changes[at] = {
    rows = KEYS[key], ids = KEYS[key + 1], changes = KEYS[key + 2], kind = ARGV[word + 1], table = ARGV[word + 2],
    id = ARGV[word + 3], value = ARGV[word + 4], expect = ARGV[word + 5],
  }
end

local function text(number)
  return string.format('%.0f', number)
end

-- The table's next generation, which is also the version of the row that is about to be written.
local function advance(change)
  local next = redis.call('HINCRBY', KEYS[1], change.table, 1)
  redis.call('ZADD', change.changes, next, text(next) .. ' ' .. ARGV[2] .. ' ' .. change.id)
  redis.call('ZREMRANGEBYSCORE', change.changes, '-inf', next - tonumber(ARGV[3]))
  return next
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
    given[at] = advance(change)
    redis.call('HSET', change.rows, change.id, text(given[at]) .. ' ' .. change.value)
    redis.call('ZADD', change.ids, 0, change.id)
  else
    given[at] = 0
    if redis.call('HDEL', change.rows, change.id) == 1 then
      redis.call('ZREM', change.ids, change.id)
      advance(change)
    end
  end
end
return given
