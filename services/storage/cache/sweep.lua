-- ARGV: now (ms). An org without entries is forgotten. Returns whether there is more to do.
expire(tonumber(ARGV[1]))
if redis.call('ZCARD', base .. ':ends') == 0 then
  redis.call('UNLINK', base, base .. ':sizes', base .. ':tags', base .. ':uses', base .. ':ends')
  redis.call('SREM', orgs, base)
  return 0
end
return redis.call('ZCOUNT', base .. ':ends', '-inf', ARGV[1]) > 0 and 1 or 0
