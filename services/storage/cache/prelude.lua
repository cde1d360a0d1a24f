-- What the scripts share. KEYS: the org's own, that of all orgs together, the set of orgs.
--   BASE          hash: bytes of the entries, turn (counts uses)
--   BASE:sizes    hash: key to bytes           BASE:tags      hash: key to its tags as JSON
--   BASE:uses     sorted set: key by last use  BASE:ends      sorted set: key by expiry in ms
--   BASE:tag:TAG  set of keys                  BASE:value:KEY hash: value, ends, tags; expires by itself
local base, all, orgs = KEYS[1], KEYS[2], KEYS[3]

-- drop takes one entry out of everything; bytes that this frees.
local function drop(key)
  local size = tonumber(redis.call('HGET', base .. ':sizes', key) or '0')
  local tags = redis.call('HGET', base .. ':tags', key)
  if tags then
    for _, tag in ipairs(cjson.decode(tags)) do redis.call('SREM', base .. ':tag:' .. tag, key) end
    redis.call('HDEL', base .. ':tags', key)
  end
  if redis.call('HDEL', base .. ':sizes', key) == 1 then
    redis.call('HINCRBY', base, 'bytes', -size)
    redis.call('HINCRBY', all, 'bytes', -size)
    redis.call('HINCRBY', all, 'entries', -1)
  end
  redis.call('ZREM', base .. ':uses', key)
  redis.call('ZREM', base .. ':ends', key)
  redis.call('UNLINK', base .. ':value:' .. key)
  return size
end

-- good tells whether the entry of a key may still be served.
local function good(key, now)
  local ends = redis.call('HGET', base .. ':value:' .. key, 'ends')
  return ends and tonumber(ends) > now
end

-- expire drops what has expired, up to a bound that keeps the script short.
local function expire(now)
  for _, key in ipairs(redis.call('ZRANGEBYSCORE', base .. ':ends', '-inf', now, 'LIMIT', 0, 1000)) do drop(key) end
end
