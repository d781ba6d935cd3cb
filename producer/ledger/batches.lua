-- Batches: their records, and the counts of their chunks.

local function batch_keys(batch)
  local record = key('batch:' .. batch)
  return { record, record .. ':done', record .. ':failed', record .. ':ended', record .. ':digests' }
end

local function is_sealed(record)
  local fields = redis.call('HMGET', record, 'submitted', 'cut')
  return fields[1] == '1' and not fields[2]
end

-- Store the end of a complete batch, and add it to the outbox.
local function end_batch(batch)
  local record = key('batch:' .. batch)
  local fields = redis.call('HMGET', record, 'submitted', 'done', 'total', 'cut')
  -- An interrupted batch is not complete until its items are submitted again.
  if fields[1] == '1' and not fields[4] and fields[2] == fields[3] then
    redis.call('HSET', record, 'ended_at', string.format('%.3f', now()))
    add_webhook_event('batch', batch)
    redis.call('ZREM', key('open-batches'), batch)
  end
end

-- Remove batches from the index of open ones that have expired, or that an older worker has ended:
-- those among the ones checked the longest ago.
local function prune_open_batches(limit)
  local index = key('open-batches')
  for _, batch in ipairs(redis.call('ZRANGE', index, 0, limit - 1)) do
    local fields = redis.call('HMGET', key('batch:' .. batch), 'submitted', 'done', 'total', 'cut')
    if not fields[3] or fields[1] == '1' and not fields[4] and fields[2] == fields[3] then
      redis.call('ZREM', index, batch)
    else
      redis.call('ZADD', index, now(), batch)
    end
  end
end

-- Store the time at which the first chunk of a job's batch starts.
local function start_batch(id)
  local batch = chunk_of(id)
  if batch then redis.call('HSETNX', key('batch:' .. batch), 'started_at', string.format('%.3f', now())) end
end

local function open_chunk(batch)
  local keys = batch_keys(batch)
  redis.call('ZADD', key('open-batches'), 'NX', now(), batch)
  if redis.call('HINCRBY', keys[1], 'left', 1) == 1 then
    for _, name in ipairs(keys) do redis.call('PERSIST', name) end
  end
end

local function close_chunk(batch, number, items, failed)
  local keys = batch_keys(batch)
  local record = keys[1]
  redis.call('SETBIT', keys[2], number, 1)
  if failed > 0 then redis.call('HSET', keys[3], number, failed) end
  redis.call('RPUSH', keys[4], number)
  redis.call('HINCRBY', record, 'failed', failed)
  local done = redis.call('HINCRBY', record, 'done', items)
  -- The rate is computed from two marks, at least ten seconds apart.
  local time = now()
  local mark = redis.call('HMGET', record, 'mark_at', 'mark_done')
  if not mark[1] or time - tonumber(mark[1]) > 10 then
    redis.call('HSET', record, 'before_at', mark[1] or string.format('%.3f', time),
      'before_done', mark[2] or done, 'mark_at', string.format('%.3f', time), 'mark_done', done)
  end
  if redis.call('HINCRBY', record, 'left', -1) == 0 then
    local keep_s = redis.call('HGET', record, 'record_s')
    for _, name in ipairs(keys) do redis.call('EXPIRE', name, keep_s) end
  end
  end_batch(batch)
end

-- Remove an ended chunk from its batch's counts.
local function reopen_chunk(batch, number, items)
  local keys = batch_keys(batch)
  local failed = tonumber(redis.call('HGET', keys[3], number) or 0)
  open_chunk(batch)
  redis.call('SETBIT', keys[2], number, 0)
  redis.call('HDEL', keys[3], number)
  redis.call('HINCRBY', keys[1], 'done', 0 - items)
  redis.call('HINCRBY', keys[1], 'failed', 0 - failed)
  redis.call('HSET', keys[1], 'retried', 1)
  redis.call('HDEL', keys[1], 'ended_at')
end

-- The digests of a batch's chunks are one string, in which each has the same length.

-- Return the stored digest of a chunk; nil if its producer stored none or it has expired.
local function read_chunk_digest(batch, number, length)
  if length == 0 then return nil end
  local digest = redis.call(
    'GETRANGE', batch_keys(batch)[5], number * length, (number + 1) * length - 1)
  -- Redis fills gaps with zero bytes.
  return #digest == length and digest:byte(1) ~= 0 and digest or nil
end

-- The digests expire even if an older worker, which does not know them, closes the last chunk.
local function store_chunk_digest(batch, number, digest)
  local keys = batch_keys(batch)
  redis.call('SETRANGE', keys[5], number * #digest, digest)
  redis.call('EXPIRE', keys[5], redis.call('HGET', keys[1], 'record_s'))
end

-- Return the status of a chunk that was enqueued before or cannot be enqueued; otherwise nil and the
-- number of the batch's items including this chunk's. `digest` identifies the items.
local function check_chunk(id, record, batch, number, digest)
  local batch_key = key('batch:' .. batch)
  local fields = redis.call(
    'HMGET', batch_key, 'chunk_items', 'total', 'submitted', 'retried', 'cut')
  if not fields[1] then return 'deleted' end
  local chunk_items, total = tonumber(fields[1]), tonumber(fields[2])
  local first = number * chunk_items
  if first < total then
    -- An earlier pass enqueued it. All chunks except the last one have the same size.
    if record.items ~= math.min(chunk_items, total - first) then return 'differs' end
    local stored_digest = read_chunk_digest(batch, number, #digest)
    if stored_digest and stored_digest ~= digest then return 'differs' end
    if redis.call('GETBIT', batch_key .. ':done', number) == 1 then return 'known' end
    local stored = read_record(id)
    -- A failover can lose a record.
    if not stored then return nil, total end
    local is_known = stored_digest or stored.payload == record.payload or fields[4]
    return is_known and 'known' or 'differs'
  end
  -- Chunks are enqueued in order, so that a batch has no gaps.
  if first > total then return 'gap' end
  if fields[3] == '1' then
    if not fields[5] then return 'differs' end
    redis.call('HDEL', batch_key, 'cut')
    redis.call('HSET', batch_key, 'submitted', 0)
  end
  return nil, first + record.items
end

-- Return the seconds until a batch's deadline, '' if it has none, and the fields of its record;
-- create the record if there is none. `pass` identifies the submission that is in progress.
function operations.open_batch(
    id, keep_s, record_s, task, chunk_items, options, metadata, webhook, pass, deadline_s)
  local record = key('batch:' .. id)
  if redis.call('EXISTS', record) == 0 then
    redis.call('HSET', record, 'task', task, 'chunk_items', chunk_items, 'options', options,
      'keep_s', keep_s, 'record_s', record_s, 'total', 0, 'done', 0, 'failed', 0, 'left', 0,
      'submitted', 0, 'heard_at', now(), 'pass', pass)
    if metadata ~= '' then redis.call('HSET', record, 'note', metadata) end
    if webhook ~= '' then redis.call('HSET', record, 'webhook', webhook) end
    if deadline_s ~= '' then redis.call('HSET', record, 'deadline_at', now() + deadline_s) end
    redis.call('EXPIRE', record, record_s)
    redis.call('DEL', key('cancelled:' .. id), record .. ':digests', record .. ':deliveries')
    local account = account_of(id)
    if account then measure_batch(account, id) end
  end
  local deadline_at = redis.call('HGET', record, 'deadline_at')
  local remaining_s = deadline_at and string.format('%.3f', deadline_at - now()) or ''
  return { remaining_s, redis.call('HGETALL', record) }
end

-- Delete a batch's record and counts. Return the number of its chunks, which remain.
function operations.delete_batch(id, ttl_s)
  ensure_writable()
  local fields = redis.call('HMGET', key('batch:' .. id), 'total', 'chunk_items')
  if not fields[1] then return 0 end
  local chunks = math.ceil(tonumber(fields[1]) / tonumber(fields[2]))
  -- A consumer that runs a chunk finds the mark when it stores the result.
  if chunks > 0 then redis.call('SET', key('cancelled:' .. id), 1, 'EX', ttl_s) end
  redis.call('DEL', key('batch:' .. id .. ':deliveries'), unpack(batch_keys(id)))
  redis.call('ZREM', key('open-batches'), id)
  local account = account_of(id)
  if account then measure_batch(account, id) end
  return chunks
end

-- Start another pass over a batch's items. From now on, only this pass can interrupt the batch.
function operations.resume_batch(id, pass)
  ensure_writable()
  local record = key('batch:' .. id)
  if redis.call('EXISTS', record) == 0 or is_sealed(record) then return end
  redis.call('HDEL', record, 'cut')
  redis.call('HSET', record, 'submitted', 0, 'pass', pass)
end

-- Mark a batch as completely submitted unless it has fewer items than `expected`. Return its items,
-- or -1 if the batch does not exist.
function operations.seal_batch(id, expected)
  ensure_writable()
  local record = key('batch:' .. id)
  local total = redis.call('HGET', record, 'total')
  if not total then return -1 end
  if not is_sealed(record) and tonumber(total) >= tonumber(expected) then
    redis.call('HDEL', record, 'cut', 'pass')
    redis.call('HSET', record, 'submitted', 1)
    end_batch(id)
  end
  return tonumber(total)
end

-- Mark a pass over a batch as interrupted; another pass can submit the same items. A batch without
-- items is deleted, as it would count as done. Do nothing for a sealed batch, or if another pass has
-- started since.
function operations.interrupt_batch(id, pass)
  ensure_writable()
  local record = key('batch:' .. id)
  if redis.call('EXISTS', record) == 0 or is_sealed(record) then return end
  local current = redis.call('HGET', record, 'pass')
  if current and current ~= pass then return end
  if redis.call('HGET', record, 'total') == '0' then
    return operations.delete_batch(id)
  end
  redis.call('HDEL', record, 'pass')
  redis.call('HSET', record, 'submitted', 1, 'cut', 1)
end
