-- ARGV: key, value, tags as JSON, ends, now (ms), bytes of the entry, bytes of an org, ms that the account outlives a set, absent
local key, value, tags, ends, now = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local weight, most, outlive = tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[8]
if ARGV[9] == '1' and good(key, now) then return 0 end

-- The first that writes: a server that is full refuses here, before anything has changed, and not once a script has written.
local turn = redis.call('HINCRBY', base, 'turn', 1)
expire(now)
drop(key)
local bytes, evicted = tonumber(redis.call('HGET', base, 'bytes') or '0'), 0
while bytes + weight > most do
  local coldest = redis.call('ZRANGE', base .. ':uses', 0, 0)[1]
  if not coldest then break end
  bytes = bytes - drop(coldest)
  evicted = evicted + 1
end

redis.call('HSET', base .. ':value:' .. key, 'value', value, 'ends', ends, 'tags', tags)
redis.call('PEXPIREAT', base .. ':value:' .. key, ends)
redis.call('HSET', base .. ':sizes', key, weight)
redis.call('ZADD', base .. ':ends', ends, key)
redis.call('ZADD', base .. ':uses', turn, key)
redis.call('HINCRBY', base, 'bytes', weight)
redis.call('HINCRBY', all, 'bytes', weight)
redis.call('HINCRBY', all, 'entries', 1)
redis.call('SADD', orgs, base)
for _, of in ipairs({'', ':sizes', ':uses', ':ends'}) do redis.call('PEXPIRE', base .. of, outlive) end
if tags ~= '[]' then
  redis.call('HSET', base .. ':tags', key, tags)
  redis.call('PEXPIRE', base .. ':tags', outlive)
  for _, tag in ipairs(cjson.decode(tags)) do
    redis.call('SADD', base .. ':tag:' .. tag, key)
    redis.call('PEXPIRE', base .. ':tag:' .. tag, outlive)
  end
end
return evicted
