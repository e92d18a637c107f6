-- What changed in a table, as far as that is remembered. Version 1.
-- KEYS  generations, changes
-- ARGV  the table, the generation from which on ('': the last alone)
-- Gives the table's generation, and the changes with that from which on, in order.

local now = redis.call('HGET', KEYS[1], ARGV[1]) or '0'
local from = ARGV[2] ~= '' and ARGV[2] or now
return {now, redis.call('ZRANGE', KEYS[2], from, now, 'BYSCORE')}
