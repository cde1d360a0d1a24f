-- ARGV: key, now (ms)
local there = good(ARGV[1], tonumber(ARGV[2]))
drop(ARGV[1])
return there and 1 or 0
