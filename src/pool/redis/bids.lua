-- Carries bids out: `books/*.rs`, word for word, where all replicas can reach it. A test holds the two against each other.
-- Version 1: what it keeps is under keys that begin with `weir:1:`. A change of their meaning is a new number.
--
-- KEYS  for each bid: answers, rests, then one for each line
-- ARGV  replica, time (empty: the server's; tests alone say another), number of bids;
--       for each bid: serial, number of lines, number of rests;
--         for each line: kind, three numbers of its terms, used, keep, need, want, back, back_since, over
--         for each rest: model, until, is_exhausted
-- Gives for each bid: 'stale', or the time and what was lost, a string for each line, and two for each rest in force.
--
-- Numbers here are doubles, whole and exact up to 2^53; whoever calls sees to it that none is larger. Levels of rates are in
-- 1/60,000 of a request or token, of which `per_minute` leak out in a millisecond. Other replicas' bids never come in between:
-- a script runs alone.

local COMPETES, RECALL, DEAD, AWAY = 2000, 1000, 5000, 1000
local MAX_RESTS, MAX_ANSWERS, MAX_HOLDERS = 64, 256, 512
local ONE, FINE, COARSE, SLICES, STEP = 60000, 250, 15000, 16, 65536
local MOST = 9007199254740991
local HOUR, DAY = 3600000, 86400000

local function text(number)
  return string.format('%.0f', number)
end

-- Whole division; exact, which a division and `floor` are not near 2^53.
local function div(number, by)
  return (number - math.fmod(number, by)) / by
end

local function div_up(number, by)
  local rest = math.fmod(number, by)
  local whole = (number - rest) / by
  if rest > 0 then whole = whole + 1 end
  return whole
end

local function numbers(line)
  local found = {}
  for word in string.gmatch(line, '%S+') do found[#found + 1] = tonumber(word) end
  return found
end

local function hash(key)
  local flat, found = redis.call('HGETALL', key), {}
  for at = 1, #flat, 2 do found[flat[at]] = flat[at + 1] end
  return found
end

local function share(left, need, want, rivals)
  if need > left then return 0 end
  local fair = div(left, math.max(rivals, 1))
  if need > 0 then fair = fair - math.fmod(fair, need) end
  return math.min(want, math.max(fair, need))
end

-- Rates: `limit/rate.rs` and `books/flow.rs`.

local function level_at(rate, now)
  return math.max(0, rate.level - math.max(0, now - rate.as_of) * rate.per_minute)
end

local function pass(lows, slice, before, now, low)
  local first, last = div(before, slice), div(now, slice)
  lows[first % SLICES] = math.min(lows[first % SLICES], low)
  for at = math.max(first + 1, last - (SLICES - 1)), last do lows[at % SLICES] = low end
end

-- 0 also where that is too long ago.
local function lowest(lows, slice, since, now)
  local first, last = div(since, slice), div(now, slice)
  if first + SLICES <= last or first > last then return 0 end
  local low = lows[first % SLICES]
  for at = first, last do low = math.min(low, lows[at % SLICES]) end
  return low
end

local function lower(lows, slice, since, now, steps)
  local first, last = div(since, slice), div(now, slice)
  for at = math.max(first, last + 1 - SLICES), last do lows[at % SLICES] = math.max(0, lows[at % SLICES] - steps) end
end

local function leak(rate, now)
  if now <= rate.as_of then return end
  rate.level = level_at(rate, now)
  local low = div(rate.level, STEP)
  pass(rate.fine, FINE, rate.as_of, now, low)
  pass(rate.coarse, COARSE, rate.as_of, now, low)
  rate.as_of = now
end

local function admit(rate, amount, now)
  leak(rate, now)
  rate.level = math.min(MOST, rate.level + amount * ONE)
end

local function give_back(rate, amount, since, now)
  leak(rate, now)
  local fine, coarse = lowest(rate.fine, FINE, since, rate.as_of), lowest(rate.coarse, COARSE, since, rate.as_of)
  local alone = math.max(0, amount * ONE - math.max(0, rate.as_of - since) * rate.per_minute)
  local back = math.min(amount * ONE, rate.level, math.max(fine * STEP, coarse * STEP, alone))
  rate.level = rate.level - back
  local steps = div_up(back, STEP)
  lower(rate.fine, FINE, since, rate.as_of, steps)
  lower(rate.coarse, COARSE, since, rate.as_of, steps)
end

local function wait_for_rate(rate, need, now)
  if need > rate.burst then return 'n 0' end
  local over = math.max(0, level_at(rate, now) + need * ONE - rate.burst * ONE)
  if over == 0 then return 's 0' end
  return 'a ' .. text(div_up(over, rate.per_minute))
end

local function flow(key, replica, line, now)
  local kept = hash(key)
  local known = numbers(kept['='] or '0 0')
  kept['='] = nil
  local rate = { level = known[1], as_of = known[2], coarse = {}, fine = {} }
  for at = 0, SLICES - 1 do
    rate.coarse[at], rate.fine[at] = known[at + 3] or 0, known[at + 3 + SLICES] or 0
  end
  rate.per_minute, rate.burst = math.max(line.first, 1), math.max(line.second, 1)

  if line.back > 0 then give_back(rate, line.back, line.back_since, now) end
  if line.over > 0 then admit(rate, line.over, now) end
  local rivals = 0
  for other, last in pairs(kept) do
    if tonumber(last) + COMPETES <= now then
      redis.call('HDEL', key, other)
    elseif other ~= replica then
      rivals = rivals + 1
    end
  end
  local asked = kept[replica] and tonumber(kept[replica]) + COMPETES > now
  if line.want > 0 then
    redis.call('HSET', key, replica, text(now))
    asked = true
  end
  if asked then rivals = rivals + 1 end
  local left = div(math.max(0, rate.burst * ONE - level_at(rate, now)), ONE)
  local units = share(left, line.need, line.want, rivals)
  if units > 0 then admit(rate, units, now) end
  local wait = 'g 0'
  if units == 0 and line.need > 0 then wait = wait_for_rate(rate, line.need, now) end

  local state = { text(rate.level), text(rate.as_of) }
  for at = 0, SLICES - 1 do state[at + 3], state[at + 3 + SLICES] = text(rate.coarse[at]), text(rate.fine[at]) end
  redis.call('HSET', key, '=', table.concat(state, ' '))
  -- Gone once it would be empty and its past forgotten.
  redis.call('PEXPIRE', key, text(HOUR + math.min(div_up(rate.level, rate.per_minute), 366 * DAY)))
  return text(units) .. ' ' .. text(left - units) .. ' ' .. wait .. ' 0'
end

-- Budgets and places: `books/stock.rs`. Fields: a holder's `@replica`, and what is known of all: `gone`, `recall`, `awake`.

local function holder_of(line)
  local known = numbers(line)
  return { held = known[1], used = known[2], seen = known[3], told = known[4] == 1 }
end

local function keep(key, field, holder)
  local told = holder.told and ' 1' or ' 0'
  redis.call('HSET', key, field, text(holder.held) .. ' ' .. text(holder.used) .. ' ' .. text(holder.seen) .. told)
end

local function dead(key, stock, now)
  local heard, found = 0, {}
  for _, holder in pairs(stock.holders) do heard = math.max(heard, holder.seen) end
  if now - heard > AWAY then
    stock.awake = now
    redis.call('HSET', key, 'awake', text(now))
  end
  for field, holder in pairs(stock.holders) do
    if now - math.max(holder.seen, stock.awake) > DEAD then found[field] = holder end
  end
  return found
end

local function bury(key, stock, now)
  for field, _ in pairs(dead(key, stock, now)) do
    stock.holders[field] = nil
    redis.call('HDEL', key, field)
  end
end

local function mourn(key, stock, now)
  local lost = 0
  for field, holder in pairs(dead(key, stock, now)) do
    if not holder.told then
      holder.told = true
      lost = lost + math.max(0, holder.held - holder.used)
      keep(key, field, holder)
    end
  end
  return lost
end

-- A gateway that is started again and again leaves a holder each time; the longest silent of very many become one number.
-- Should it speak again, what it holds counts twice: too much, never too little.
local function fold(key, stock, count, mine)
  if count <= MAX_HOLDERS then return end
  local oldest
  for field, holder in pairs(stock.holders) do
    if field ~= mine and (not oldest or holder.seen < stock.holders[oldest].seen) then oldest = field end
  end
  redis.call('HSET', key, 'gone', text(math.min(MOST, stock.gone + stock.holders[oldest].held)))
  redis.call('HDEL', key, oldest)
end

local function wait_for_stock(key, stock, mine, line, limit, left, now)
  local idle = 0
  for field, holder in pairs(stock.holders) do
    if field ~= mine and holder.seen + COMPETES > now then idle = idle + math.max(0, holder.held - holder.used) end
  end
  if line.need > limit then return 'n 0' end
  if line.need <= left + idle then
    stock.recall = now + RECALL
    redis.call('HSET', key, 'recall', text(stock.recall))
    return 's 0'
  end
  if line.kind == 'b' then return 'a ' .. text(math.max(1, line.third - now)) end
  return 'o 0'
end

local function stock(key, replica, line, now)
  local limit = line.first
  if line.kind == 'b' and (now < line.second or now >= line.third) then
    -- The replica's idea of today is not ours: it learns our clock from the reply and asks again.
    return line.need > 0 and '0 0 s 0 0' or '0 0 g 0 0'
  end
  local kept = hash(key)
  local all = {
    gone = tonumber(kept['gone'] or 0), recall = tonumber(kept['recall'] or 0),
    awake = tonumber(kept['awake'] or 0), holders = {},
  }
  for field, value in pairs(kept) do
    if string.sub(field, 1, 1) == '@' then all.holders[field] = holder_of(value) end
  end
  local lost = 0
  if line.kind == 's' then bury(key, all, now) else lost = mourn(key, all, now) end
  local mine = '@' .. replica
  local holder = { held = math.min(MOST, line.used + line.keep), used = line.used, seen = now }
  all.holders[mine] = holder
  local held, rivals, count = all.gone, 0, 0
  for _, other in pairs(all.holders) do
    held, count = held + other.held, count + 1
    if other.seen + COMPETES > now then rivals = rivals + 1 end
  end
  local left = math.max(0, limit - held)
  local units = share(left, line.need, line.want, rivals)
  holder.held = math.min(MOST, holder.held + units)
  keep(key, mine, holder)
  local wait = 'g 0'
  if line.need > 0 and units == 0 then wait = wait_for_stock(key, all, mine, line, limit, left, now) end
  if line.kind == 'b' then fold(key, all, count, mine) end
  redis.call('PEXPIRE', key, text(line.kind == 'b' and line.third - now + 2 * DAY or DAY))
  local recall = all.recall > now and ' 1' or ' 0'
  return text(units) .. ' ' .. text(left - units) .. ' ' .. wait .. recall, lost
end

-- Rests: a field for each model (and one for all), 'until is_exhausted'.

local function note_rests(key, rests, now, reply)
  local kept = hash(key)
  local count = 0
  for _ in pairs(kept) do count = count + 1 end
  for _, rest in ipairs(rests) do
    local known = kept[rest.model]
    if rest['until'] == 0 then
      redis.call('DEL', key)
      kept, count = {}, 0
    elseif known then
      if numbers(known)[1] < rest['until'] then kept[rest.model] = text(rest['until']) .. ' ' .. rest.exhausted end
    elseif count < MAX_RESTS then
      kept[rest.model] = text(rest['until']) .. ' ' .. rest.exhausted
      count = count + 1
    end
    if kept[rest.model] then redis.call('HSET', key, rest.model, kept[rest.model]) end
  end
  local last = now
  for model, value in pairs(kept) do
    local ends = numbers(value)[1]
    if ends > now then
      reply[#reply + 1], reply[#reply + 2] = model, value
      last = math.max(last, ends)
    else
      redis.call('HDEL', key, model)
    end
  end
  if last > now then redis.call('PEXPIRE', key, text(math.min(last - now, 3660 * DAY))) end
end

-- Answers: a field for each replica, 'serial time packed'.

local function remember(key, replica, serial, now, reply)
  if redis.call('HLEN', key) >= MAX_ANSWERS and redis.call('HEXISTS', key, replica) == 0 then
    local oldest, since
    for other, value in pairs(hash(key)) do
      local at = tonumber(string.match(value, '^%d+ (%d+) '))
      if not since or at < since or (at == since and other < oldest) then oldest, since = other, at end
    end
    redis.call('HDEL', key, oldest)
  end
  redis.call('HSET', key, replica, text(serial) .. ' ' .. text(now) .. ' ' .. cmsgpack.pack(reply))
  redis.call('PEXPIRE', key, text(DAY))
end

local next_key, next_word = 0, 3

local function key()
  next_key = next_key + 1
  return KEYS[next_key]
end

local function word()
  next_word = next_word + 1
  return ARGV[next_word]
end

local function number()
  return tonumber(word())
end

local function bid_of_words()
  local bid = { answers = key(), rests_key = key(), serial = number(), lines = {}, rests = {} }
  local lines, rests = number(), number()
  for at = 1, lines do
    bid.lines[at] = {
      key = key(), kind = word(), first = number(), second = number(), third = number(),
      used = number(), keep = number(), need = number(), want = number(),
      back = number(), back_since = number(), over = number(),
    }
  end
  for at = 1, rests do bid.rests[at] = { model = word(), ['until'] = number(), exhausted = word() } end
  return bid
end

-- A repeated bid is a sign of life: its sender got no answer. False where it was taken for dead before that.
local function alive(replica, bid, now)
  local is_alive = true
  for _, line in ipairs(bid.lines) do
    if line.kind == 's' then
      local mine = '@' .. replica
      local known = redis.call('HGET', line.key, mine)
      if known then
        local holder = holder_of(known)
        holder.seen = now
        keep(line.key, mine, holder)
      else
        is_alive = false
      end
    end
  end
  return is_alive
end

local function carry_out(replica, bid, now)
  local known = redis.call('HGET', bid.answers, replica)
  if known then
    local serial, packed = string.match(known, '^(%d+) %d+ (.*)$')
    if tonumber(serial) > bid.serial then return { 'stale' } end
    if tonumber(serial) == bid.serial then return alive(replica, bid, now) and cmsgpack.unpack(packed) or { 'stale' } end
  end
  local reply, all_lost = {}, 0
  for at, line in ipairs(bid.lines) do
    local grant = line.kind == 'r' and flow or stock
    local answer, lost = grant(line.key, replica, line, now)
    reply[at + 1], all_lost = answer, math.min(MOST, all_lost + (lost or 0))
  end
  reply[1] = text(now) .. ' ' .. text(all_lost)
  note_rests(bid.rests_key, bid.rests, now, reply)
  remember(bid.answers, replica, bid.serial, now, reply)
  return reply
end

local replica, now = ARGV[1], tonumber(ARGV[2])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end
local replies = {}
for at = 1, tonumber(ARGV[3]) do replies[at] = carry_out(replica, bid_of_words(), now) end
return replies
