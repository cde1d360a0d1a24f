#!lua
-- Appends the rows whose positions are not known to their streams, and notes the positions. It answers one letter a row:
-- A appended, D known already, T the key holds something that is no stream.
--
-- KEYS: the streams, then bitmaps of positions. ARGV: how many streams, MAXLEN, seconds that bitmaps live (0: for ever), then for
-- each row: number of its stream, of its bitmap, the bit, and what the entry holds.
local streams, maxlen, lifetime = tonumber(ARGV[1]), ARGV[2], ARGV[3]
local foreign, answer = {}, {}
for i = 1, #KEYS do
  local kind = redis.call('TYPE', KEYS[i]).ok
  if i <= streams then
    foreign[i] = kind ~= 'none' and kind ~= 'stream'
  elseif kind ~= 'none' and kind ~= 'string' then
    return redis.error_reply('WRONGTYPE ' .. KEYS[i] .. ' holds a ' .. kind .. ', and no positions')
  end
end
for at = 4, #ARGV, 9 do
  local stream, bitmap, bit = tonumber(ARGV[at]), KEYS[tonumber(ARGV[at + 1])], ARGV[at + 2]
  if foreign[stream] then
    answer[#answer + 1] = 'T'
  elseif redis.call('GETBIT', bitmap, bit) == 1 then
    -- A write all the same, so that a WAIT behind the script waits for the first one, too.
    redis.call('SETBIT', bitmap, bit, 0)
    redis.call('SETBIT', bitmap, bit, 1)
    answer[#answer + 1] = 'D'
  else
    local entry = {'XADD', KEYS[stream]}
    if maxlen ~= '0' then
      entry[3], entry[4], entry[5] = 'MAXLEN', '~', maxlen
    end
    entry[#entry + 1] = '*'
    for i, field in ipairs({'position', 'org_id', 'uuid', 'index', 'received_at', 'data'}) do
      local value = ARGV[at + 2 + i]
      if field ~= 'index' or value ~= '' then
        entry[#entry + 1] = field
        entry[#entry + 1] = value
      end
    end
    redis.call(unpack(entry))
    redis.call('SETBIT', bitmap, bit, 1)
    answer[#answer + 1] = 'A'
  end
end
if lifetime ~= '0' then
  for i = streams + 1, #KEYS do
    redis.call('EXPIRE', KEYS[i], lifetime)
  end
end
return table.concat(answer)
