-- How many replicas there are: each says so every second, and is forgotten after five seconds of silence. An outage must not
-- make them fewer: whoever asks first after it only adds itself to those that were there before.
--
-- KEYS  replicas (by the time they were last heard of)
-- ARGV  replica, '1' where it stays and '0' where it leaves, time (empty: the server's; tests alone say another)
-- Gives their number.

local DEAD = 5000

local now = tonumber(ARGV[3])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end
local function text(number) return string.format('%.0f', number) end

if ARGV[2] == '0' then
  redis.call('ZREM', KEYS[1], ARGV[1])
  return redis.call('ZCARD', KEYS[1])
end
local last = redis.call('ZRANGE', KEYS[1], 0, 0, 'REV', 'WITHSCORES')[2]
-- Silence of all of them is the authority's own: nobody is dead because of that.
if last and now - tonumber(last) <= DEAD then
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. text(now - DEAD))
end
redis.call('ZADD', KEYS[1], text(now), ARGV[1])
redis.call('PEXPIRE', KEYS[1], '3600000')
return redis.call('ZCARD', KEYS[1])
