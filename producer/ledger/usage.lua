-- Usage: the bytes that Redis stores for each account, and the images that an account uploaded.
--
-- An account is the name of API keys. The ids of its jobs and batches begin with it: `acme.job.x`.
-- Nothing is counted for ids without an account, which only clients of Redis itself submit.
--
-- `usage` has the bytes of each account, and those of all accounts as `*`. `usage:<account>` has an
-- entry for each job, batch and image: its bytes, and further numbers. An operation measures the
-- entries that it changes. Redis expires keys silently, clients can die between two calls, and older
-- versions do not count. Therefore each entry is also measured when it is due: when a key of it
-- expires, at the latest after RECOUNT_S.

-- Bytes of an entry in addition to its values: keys, its message, the entry itself.
local ENTRY_BYTES = 512
-- Bytes of an attempt in the delivery log of a batch.
local DELIVERY_BYTES = 400
local RECOUNT_S = 6 * 3600
-- Seconds within which an announced upload arrives.
local ARRIVAL_S = 120
-- Maximum due entries that one call measures: a submission, a periodic call, and a call that would
-- exceed a quota, perhaps because of expired entries.
local DUE_LIMIT = 16
local IDLE_DUE_LIMIT = 200
local FULL_DUE_LIMIT = 1000

local function account_of(id)
  return id:match('^([a-z0-9][a-z0-9-]*)%.job%.') or id:match('^([a-z0-9][a-z0-9-]*)%.batch%.')
end

-- Return the numbers of an entry as a text; nil if there is none.
local function usage_entry(account, entry)
  return redis.call('HGET', key('usage:' .. account), entry) or nil
end

-- Return the index of an account that contains an entry, and its member: single jobs and batches are
-- listed by the time of their submission, the chunks of batches and images are not.
local function index_of(account, entry)
  local kind, owner, id = entry:match('^(%a+) [^.]*%.(%a+)%.(.*)$')
  if kind and kind == owner then
    return key('index:' .. kind .. ':' .. account), id
  end
end

-- Store an entry; its first number is its bytes. It is due after `due_s`. nil removes it.
local function set_usage(account, entry, numbers, due_s)
  local stored = usage_entry(account, entry)
  local member = account .. ' ' .. entry
  local index, id = index_of(account, entry)
  if numbers then
    local time = now()
    redis.call('HSET', key('usage:' .. account), entry, numbers)
    redis.call('ZADD', key('usage-due'), time + due_s, member)
    if index and not stored then redis.call('ZADD', index, string.format('%.6f', time), id) end
  else
    redis.call('HDEL', key('usage:' .. account), entry)
    redis.call('ZREM', key('usage-due'), member)
    if index then redis.call('ZREM', index, id) end
  end
  local change = tonumber((numbers or '0'):match('^%d+')) - tonumber((stored or '0'):match('^%d+'))
  for _, field in ipairs(change == 0 and {} or { account, '*' }) do
    if redis.call('HINCRBY', key('usage'), field, string.format('%d', change)) <= 0 then
      redis.call('HDEL', key('usage'), field)
    end
  end
end

-- Return whether any of these keys exists, and the seconds until the first of them expires.
local function existence(names)
  local exists, due_s = false, RECOUNT_S
  for _, name in ipairs(names) do
    local ttl_ms = redis.call('PTTL', name)
    exists = exists or ttl_ms ~= -2
    if ttl_ms >= 0 then due_s = math.min(due_s, (ttl_ms + 2) / 1000) end
  end
  return exists, due_s
end

-- Return the bytes of some fields of a hash.
local function field_bytes(name, ...)
  local bytes = 0
  for _, value in ipairs(redis.call('HMGET', name, ...)) do bytes = bytes + #(value or '') end
  return bytes
end

-- Measure a job. While it is open, `result_bytes` are reserved for its result.
local function measure_job(account, id, result_bytes)
  local entry = 'job ' .. id
  local record, note = key('job:' .. id), key('note:' .. id)
  local result = prefix .. 'celery-task-meta-' .. id
  local exists, due_s = existence({ record, note, result })
  if not exists then return set_usage(account, entry, nil) end
  result_bytes = result_bytes or (usage_entry(account, entry) or ''):match(' (%d+)') or 0
  if not is_open(id) then result_bytes = 0 end
  local bytes = ENTRY_BYTES + redis.call('STRLEN', record) + redis.call('STRLEN', result)
  for _, field in ipairs({ 'note', 'digest', 'webhook' }) do
    bytes = bytes + redis.call('HSTRLEN', note, field)
  end
  set_usage(account, entry, string.format('%d %d', bytes + result_bytes, result_bytes), due_s)
end

local function measure_batch(account, id)
  local record = key('batch:' .. id)
  local exists, due_s = existence({ record })
  if not exists then return set_usage(account, 'batch ' .. id, nil) end
  local bytes = ENTRY_BYTES + redis.call('STRLEN', record .. ':done')
    + redis.call('STRLEN', record .. ':digests') + 8 * redis.call('LLEN', record .. ':ended') + 16 * redis.call('HLEN', record .. ':failed')
    + DELIVERY_BYTES * redis.call('LLEN', record .. ':deliveries')
  for _, field in ipairs({ 'options', 'note', 'webhook' }) do
    bytes = bytes + redis.call('HSTRLEN', record, field)
  end
  set_usage(account, 'batch ' .. id, string.format('%d', bytes), due_s)
end

-- Return an image's bytes, the account's open jobs that name it, and the Unix time until which it is
-- kept for the account without them; nil if the account has not uploaded it.
local function image_entry(account, sha)
  local numbers = usage_entry(account, 'blob ' .. sha)
  if not numbers then return nil end
  local bytes, users, keep_until = numbers:match('^(%d+) (%d+) (%d+)$')
  return tonumber(bytes), tonumber(users), tonumber(keep_until)
end

local function set_image_entry(account, sha, bytes, users, keep_until, due_s)
  local left_s = math.max(0, keep_until - now())
  local numbers = string.format('%d %d %d', bytes, users, keep_until)
  due_s = due_s or (users > 0 and RECOUNT_S or math.min(left_s, RECOUNT_S))
  set_usage(account, 'blob ' .. sha, numbers, due_s)
end

local function measure_image(account, sha)
  local bytes, users, keep_until = image_entry(account, sha)
  if not bytes then return end
  if users > 0 and redis.call('HEXISTS', key('blob-users'), sha) == 0 then
    -- An older version closed the jobs that named it.
    users, keep_until = 0, math.ceil(now()) + redis.call('TTL', key('blob:' .. sha))
  end
  local is_kept = users > 0 or keep_until > now()
  if not is_kept or redis.call('EXISTS', key('blob:' .. sha)) == 0 then
    return set_usage(account, 'blob ' .. sha, nil)
  end
  set_image_entry(account, sha, bytes, users, keep_until)
end

-- Measure a job that changed, and its batch.
local function measure(id, result_bytes)
  local account = account_of(id)
  if not account then return end
  measure_job(account, id, result_bytes)
  local batch = id:match('^(.*):%d+$')
  if batch then measure_batch(account, batch) end
end

-- Measure due entries of all accounts. After a write only: see `ensure_writable`.
local function measure_due(limit)
  local measures = { job = measure_job, batch = measure_batch, blob = measure_image }
  local due = key('usage-due')
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', due, '-inf', now(), 'LIMIT', 0, limit)) do
    local account, kind, name = member:match('^(%S+) (%S+) (.*)$')
    redis.call('ZREM', due, member)
    measures[kind](account, name)
  end
end

-- Return the status of a write of `bytes` that exceeds a quota; a quota of 0 means unlimited.
local function quota_error(account, bytes, max_account_bytes, max_total_bytes)
  local used = redis.call('HMGET', key('usage'), account, '*')
  local limits = { tonumber(max_account_bytes), tonumber(max_total_bytes) }
  for index, status in ipairs({ 'account_full', 'storage_full' }) do
    if limits[index] > 0 and tonumber(used[index] or 0) + bytes > limits[index] then
      return status
    end
  end
end

-- Return the same after expired entries were removed.
local function lasting_quota_error(...)
  if not quota_error(...) then return nil end
  measure_due(FULL_DUE_LIMIT)
  return quota_error(...)
end
