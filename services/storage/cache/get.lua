-- ARGV: key, now (ms)
local found = redis.call('HMGET', base .. ':value:' .. ARGV[1], 'value', 'ends', 'tags')
if not found[1] or tonumber(found[2]) <= tonumber(ARGV[2]) then return false end
-- Not needed for the answer: a server that is full or read-only still gives it.
local turn = redis.pcall('HINCRBY', base, 'turn', 1)
if type(turn) == 'number' then redis.pcall('ZADD', base .. ':uses', 'XX', turn, ARGV[1]) end
return found
