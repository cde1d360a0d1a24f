-- ARGV: tag, now (ms)
local n = 0
for _, key in ipairs(redis.call('SMEMBERS', base .. ':tag:' .. ARGV[1])) do
  if good(key, tonumber(ARGV[2])) then n = n + 1 end
  drop(key)
end
return n
