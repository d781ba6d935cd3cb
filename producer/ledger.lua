-- The books of all jobs: every change is one call of this script, so none is ever half made.
--
-- ARGV: the deployment's key prefix, an operation, its arguments. keys.py names the same keys.
--
-- A job's row has three parts, each but the last one line:
--   <items> <queue> <submitter> [<sha256 of an uploaded image> ...]
--   the Celery message that asks for it
--   what is asked, as JSON
--
-- A job without a result is in `open`, and in exactly one of three places: in its submitter's lane,
-- in `released` (its message is in Celery's hands), or in `running`. Celery loses messages; what has
-- been in the last two places for too long without a sign of life is pushed again (`sweep`).

-- Jobs in Celery's hands at most, and how many more for each that is being run. The fewer, the sooner
-- a new submitter's turn comes; consumers hardly wait for more, since each that begins a job releases
-- the next, but the more of them there are, the more are on their way at once.
local WINDOW = 16
local WINDOW_FOR_EACH_RUNNING = 0.25
-- Messages of other programs, which Celery's list may hold as well, that are looked through.
local LOOK_THROUGH = 1000
-- Lost jobs that are pushed again in one sweep, and forgotten ones that are passed over in one go: a
-- script holds up everybody else.
local SWEPT_AT_ONCE = 200
local PASSED_AT_ONCE = 2000

local prefix = ARGV[1]

local function key(name)
  return prefix .. 'blipline:' .. name
end

local function now()
  local time = redis.call('TIME')
  return tonumber(time[1]) + tonumber(time[2]) / 1e6
end

-- A full Redis refuses a script's first write if it needs memory. One that has begun to write may
-- go on: what ends work, or keeps it from being lost, must find room.
local function claim_room()
  redis.call('ZREM', key('running'), '')
end

local function parse(text)
  local head, message, asked = text:match('^([^\n]*)\n([^\n]*)\n(.*)$')
  local items, queue, submitter, blobs = head:match('^(%d+) (%S+) (%S+)(.*)$')
  return {
    text = text, message = message, asked = asked,
    items = tonumber(items), queue = queue, submitter = submitter, blobs = blobs,
  }
end

local function read(id)
  local text = redis.call('GET', key('job:' .. id))
  return text and parse(text) or nil
end

-- The batch that a job is a chunk of, and its number there.
local function chunk_of(id)
  local batch, number = id:match('^(.*):(%d+)$')
  if batch and redis.call('EXISTS', key('batch:' .. batch)) == 1 then
    return batch, tonumber(number)
  end
end

local function batch_keys(batch)
  local record = key('batch:' .. batch)
  return { record, record .. ':done', record .. ':failed', record .. ':ended' }
end

-- Jobs move from lanes to Celery's list. The submitter that has had the fewest items is next.
local function pump(queue)
  local released, turns = key(queue .. ':released'), key(queue .. ':turns')
  local window = WINDOW + WINDOW_FOR_EACH_RUNNING * redis.call('ZCARD', key('running'))
  local passed = 0
  while redis.call('ZCARD', released) < window and passed < PASSED_AT_ONCE do
    local submitter = redis.call('ZRANGE', turns, 0, 0)[1]
    if not submitter then return end
    local lane = key(queue .. ':lane:' .. submitter)
    local id = redis.call('RPOP', lane)
    local row = id and read(id)
    if row then
      redis.call('ZADD', released, now(), id)
      redis.call('LPUSH', prefix .. queue, row.message)
      redis.call('ZINCRBY', turns, row.items, submitter)
    else
      passed = passed + 1
    end
    if redis.call('EXISTS', lane) == 0 then redis.call('ZREM', turns, submitter) end
  end
end

local function wait_in_lane(id, row)
  local turns = key(row.queue .. ':turns')
  redis.call('LPUSH', key(row.queue .. ':lane:' .. row.submitter), id)
  if not redis.call('ZSCORE', turns, row.submitter) then
    -- A newcomer has as much behind it as whoever is next: neither a debt nor a credit.
    local first = redis.call('ZRANGE', turns, 0, 0, 'WITHSCORES')
    redis.call('ZADD', turns, first[2] or 0, row.submitter)
  end
  pump(row.queue)
end

-- Uploaded images: kept for as long as an open job names them, and their bytes counted once.

local function users_of(sha)
  local held = redis.call('HGET', key('blob-users'), sha)
  if not held then return 0, 0 end
  local count, bytes = held:match('^(%d+) (%d+)$')
  return tonumber(count), tonumber(bytes)
end

local function bytes_to_hold(blobs)
  local bytes = 0
  for sha in blobs:gmatch('%S+') do
    if users_of(sha) == 0 then bytes = bytes + redis.call('STRLEN', key('blob:' .. sha)) end
  end
  return bytes
end

local function hold_blobs(blobs)
  for sha in blobs:gmatch('%S+') do
    local count, bytes = users_of(sha)
    if bytes == 0 then
      bytes = redis.call('STRLEN', key('blob:' .. sha))
      redis.call('HINCRBY', key('depth'), 'blob_bytes', bytes)
    end
    redis.call('PERSIST', key('blob:' .. sha))
    redis.call('HSET', key('blob-users'), sha, count + 1 .. ' ' .. bytes)
  end
end

local function less(field, by)
  if redis.call('HINCRBY', key('depth'), field, -by) <= 0 then
    redis.call('HDEL', key('depth'), field)
  end
end

local function let_blobs_go(blobs, ttl_s)
  for sha in blobs:gmatch('%S+') do
    local count, bytes = users_of(sha)
    if count > 1 then
      redis.call('HSET', key('blob-users'), sha, count - 1 .. ' ' .. bytes)
    elseif count == 1 then
      redis.call('HDEL', key('blob-users'), sha)
      redis.call('EXPIRE', key('blob:' .. sha), ttl_s)
      less('blob_bytes', bytes)
    end
  end
end

-- Opening and closing.

local function open(id, row)
  -- First what a full Redis refuses: then nothing has been changed.
  redis.call('ZADD', key('open'), now(), id)
  redis.call('SET', key('job:' .. id), row.text)
  redis.call('HINCRBY', key('depth'), row.queue, row.items)
  hold_blobs(row.blobs)
end

local function open_chunk(batch)
  local keys = batch_keys(batch)
  if redis.call('HINCRBY', keys[1], 'left', 1) == 1 then
    for _, one in ipairs(keys) do redis.call('PERSIST', one) end
  end
end

-- Returns the row if the job was open.
local function close(id, blob_ttl_s)
  if redis.call('ZREM', key('open'), id) == 0 then return nil end
  local row = read(id)
  redis.call('ZREM', key('running'), id)
  redis.call('HDEL', key('attempts'), id)
  redis.call('HDEL', key('suspects'), id)
  if row then
    redis.call('ZREM', key(row.queue .. ':released'), id)
    less(row.queue, row.items)
    let_blobs_go(row.blobs, blob_ttl_s)
  end
  return row
end

local function close_chunk(batch, number, items, failed)
  local keys = batch_keys(batch)
  local record = keys[1]
  redis.call('SETBIT', keys[2], number, 1)
  if failed > 0 then redis.call('HSET', keys[3], number, failed) end
  redis.call('RPUSH', keys[4], number)
  redis.call('HINCRBY', record, 'failed', failed)
  local done = redis.call('HINCRBY', record, 'done', items)
  -- Two marks, ten seconds or more apart, tell how fast it goes.
  local time = now()
  local mark = redis.call('HMGET', record, 'mark_at', 'mark_done')
  if not mark[1] or time - tonumber(mark[1]) > 10 then
    redis.call('HSET', record, 'before_at', mark[1] or string.format('%.3f', time),
      'before_done', mark[2] or done, 'mark_at', string.format('%.3f', time), 'mark_done', done)
  end
  if redis.call('HINCRBY', record, 'left', -1) == 0 then
    local keep = redis.call('HGET', record, 'record_s')
    for _, one in ipairs(keys) do redis.call('EXPIRE', one, keep) end
  end
end

-- A dead letter is one for as long as its row is kept.
local function bury(id, ttl_s)
  local dead = key('dead')
  for _, old in ipairs(redis.call('ZRANGE', dead, 0, 1)) do
    if redis.call('EXISTS', key('job:' .. old)) == 0 then redis.call('ZREM', dead, old) end
  end
  redis.call('ZADD', dead, now(), id)
  if redis.call('TTL', dead) < ttl_s then redis.call('EXPIRE', dead, ttl_s) end
end

-- Why there is no room for a job; 0 is no bound. An empty queue takes a job of any size, which would
-- wait for ever otherwise.
local function refusal(row, max_items, max_blob_bytes)
  local depth = redis.call('HMGET', key('depth'), row.queue, 'blob_bytes')
  local items, bytes = tonumber(depth[1] or 0), tonumber(depth[2] or 0)
  if max_items > 0 and items > 0 and items + row.items > max_items then return 'full' end
  if max_blob_bytes > 0 and bytes > 0 and row.blobs ~= ''
      and bytes + bytes_to_hold(row.blobs) > max_blob_bytes then
    return 'blobs_full'
  end
end

local operations = {}

-- What producers do.

-- A batch's record, entered if there is none: its fields. One that was cut short is open again.
function operations.batch(id, keep_s, record_s, task, chunk_items, options)
  local record = key('batch:' .. id)
  if redis.call('EXISTS', record) == 0 then
    redis.call('HSET', record, 'task', task, 'chunk_items', chunk_items, 'options', options,
      'keep_s', keep_s, 'record_s', record_s, 'total', 0, 'done', 0, 'failed', 0, 'left', 0,
      'submitted', 0, 'heard_at', now())
    redis.call('EXPIRE', record, record_s)
    redis.call('DEL', key('cancelled:' .. id))
  elseif redis.call('HDEL', record, 'cut') == 1 then
    redis.call('HSET', record, 'submitted', 0)
  end
  return redis.call('HGETALL', record)
end

-- Enter a job. `known`: it was entered before; `differs`: as something else.
function operations.enter(id, text, max_items, max_blob_bytes, batch, number)
  local row = parse(text)
  local record = batch and key('batch:' .. batch)
  local last
  if batch then
    local fields = redis.call('HMGET', record, 'chunk_items', 'total', 'submitted', 'retried')
    if not fields[1] then return 'deleted' end
    if redis.call('GETBIT', record .. ':done', number) == 1 then return 'known' end
    local held = read(id)
    if held then return (held.asked == row.asked or fields[4]) and 'known' or 'differs' end
    last = number * fields[1] + row.items
    if last <= tonumber(fields[2]) then
      last = nil
    elseif fields[3] == '1' then
      return 'differs'
    end
  elseif redis.call('EXISTS', key('job:' .. id), prefix .. 'celery-task-meta-' .. id) > 0 then
    return 'known'
  end
  local full = refusal(row, tonumber(max_items), tonumber(max_blob_bytes))
  if full then return full end
  open(id, row)
  if batch then
    open_chunk(batch)
    if last then redis.call('HSET', record, 'total', last) end
    redis.call('HSET', record, 'heard_at', now())
  end
  wait_in_lane(id, row)
  return 'entered'
end

-- Keep uploads until their jobs are entered. Says of each whether it is held.
function operations.touch(ttl_s, ...)
  local held = {}
  for _, sha in ipairs({ ... }) do
    local left = redis.call('TTL', key('blob:' .. sha))
    -- -1: an open job names it, and it is kept for as long as that.
    if left >= 0 and left < tonumber(ttl_s) then redis.call('EXPIRE', key('blob:' .. sha), ttl_s) end
    table.insert(held, left == -2 and 0 or 1)
  end
  return held
end

-- Ask an ended job again, as its new row says. Returns 0 where it is open, or nothing is kept of it.
function operations.again(id, text, failed)
  if redis.call('ZSCORE', key('open'), id) or redis.call('EXISTS', key('job:' .. id)) == 0 then
    return 0
  end
  local row = parse(text)
  open(id, row)
  redis.call('DEL', prefix .. 'celery-task-meta-' .. id, key('cancelled:' .. id))
  redis.call('ZREM', key('dead'), id)
  local batch, number = chunk_of(id)
  if batch then
    local keys = batch_keys(batch)
    open_chunk(batch)
    redis.call('SETBIT', keys[2], number, 0)
    redis.call('HDEL', keys[3], number)
    redis.call('HINCRBY', keys[1], 'done', -row.items)
    redis.call('HINCRBY', keys[1], 'failed', -failed)
    redis.call('HSET', keys[1], 'retried', 1)
  end
  wait_in_lane(id, row)
  return 1
end

-- Mark a job, or every chunk of a batch, as no longer wanted.
function operations.cancel(id, ttl_s)
  claim_room()
  redis.call('SET', key('cancelled:' .. id), 1, 'EX', ttl_s)
end

-- Drop all that is known of jobs.
function operations.forget(blob_ttl_s, ...)
  claim_room()
  for _, id in ipairs({ ... }) do
    close(id, blob_ttl_s)
    redis.call('ZREM', key('dead'), id)
    redis.call('DEL', key('job:' .. id), prefix .. 'celery-task-meta-' .. id)
  end
  pump('interactive')
  pump('bulk')
end

-- What consumers do.

-- A consumer was handed a job's message. What it is to do about it:
--   done, the stored result        hand that back
--   busy                           nothing: another consumer is at it, or else the sweeper sees to it
--   gone                           nothing: nobody wants it any more
--   run, cancelled, begun so often, the items it died of, what is asked
function operations.begin(id, asked_in_message, lease_s)
  claim_room()
  local running = key('running')
  local result = redis.call('GET', prefix .. 'celery-task-meta-' .. id)
  if result then
    if not redis.call('ZSCORE', key('open'), id) then redis.call('ZREM', running, id) end
    return { 'done', result }
  end
  local row = redis.call('ZSCORE', key('open'), id) and read(id)
  local batch = id:match('^(.*):%d+$')
  local cancelled = redis.call('EXISTS', key('cancelled:' .. id), key('cancelled:' .. (batch or id)))
  if not row then
    if asked_in_message == '0' and cancelled > 0 then return { 'gone' } end
    redis.call('ZADD', running, now(), id)
    return { 'run', cancelled, 1, '{}', '' }
  end
  local alive_at = redis.call('ZSCORE', running, id)
  if alive_at and now() - tonumber(alive_at) < tonumber(lease_s) then return { 'busy' } end
  redis.call('ZREM', key(row.queue .. ':released'), id)
  redis.call('ZADD', running, now(), id)
  pump(row.queue)
  local attempts = redis.call('HINCRBY', key('attempts'), id, 1)
  return { 'run', cancelled, attempts, redis.call('HGET', key('suspects'), id) or '{}', row.asked }
end

-- A sign of life for running jobs. Returns those that somebody has cancelled.
function operations.beat(...)
  claim_room()
  local cancelled = {}
  for _, id in ipairs({ ... }) do
    redis.call('ZADD', key('running'), 'XX', now(), id)
    local batch = id:match('^(.*):%d+$')
    if redis.call('EXISTS', key('cancelled:' .. id), key('cancelled:' .. (batch or id))) > 0 then
      table.insert(cancelled, id)
    end
  end
  return cancelled
end

-- Store a job's result, tell those who wait for it, and close its row. The first result stays.
function operations.finish(id, stored, ttl_s, failed, dead, blob_ttl_s)
  claim_room()
  failed = tonumber(failed)
  local batch, number = chunk_of(id)
  local name = id:match('^(.*):%d+$')
  if batch then ttl_s = redis.call('HGET', key('batch:' .. batch), 'keep_s') end
  -- What is asked again needs its images again.
  local row = close(id, failed == 0 and blob_ttl_s or ttl_s)
  if row then pump(row.queue) end
  if failed < 0 then failed = row and row.items or 1 end
  if not row then
    redis.call('ZREM', key('running'), id)
    -- Of a batch that was deleted meanwhile.
    if name and not batch and redis.call('EXISTS', key('cancelled:' .. name)) == 1 then return end
  end
  local result = prefix .. 'celery-task-meta-' .. id
  if redis.call('SET', result, stored, 'NX', 'EX', ttl_s) then
    redis.call('PUBLISH', result, stored)
  end
  if not row then return end
  if failed > 0 then
    redis.call('EXPIRE', key('job:' .. id), ttl_s)
  else
    redis.call('DEL', key('job:' .. id))
  end
  if dead == '1' then bury(id, tonumber(ttl_s)) end
  if batch then close_chunk(batch, number, row.items, failed) end
end

-- Push lost jobs again, before all others. Returns how many there were.
function operations.sweep(pause_ms, lease_s)
  claim_room()
  if not redis.call('SET', key('sweeper'), 1, 'NX', 'PX', pause_ms) then return 0 end
  local silent_since = now() - lease_s
  local silent = { interactive = {}, bulk = {} }
  for queue, ids in pairs(silent) do
    local released = key(queue .. ':released')
    for _, id in ipairs(redis.call(
        'ZRANGEBYSCORE', released, '-inf', silent_since, 'LIMIT', 0, SWEPT_AT_ONCE)) do
      table.insert(ids, id)
    end
  end
  for _, id in ipairs(redis.call(
      'ZRANGEBYSCORE', key('running'), '-inf', silent_since, 'LIMIT', 0, SWEPT_AT_ONCE)) do
    local row = redis.call('ZSCORE', key('open'), id) and read(id)
    if row then
      table.insert(silent[row.queue], id)
    else
      redis.call('ZREM', key('running'), id)
    end
  end
  local swept = 0
  for queue, ids in pairs(silent) do
    local list, released = prefix .. queue, key(queue .. ':released')
    if #ids > 0 and redis.call('LLEN', list) <= LOOK_THROUGH then
      local waiting = {}
      for _, message in ipairs(redis.call('LRANGE', list, 0, -1)) do
        waiting[message:match('"id": ?"([^"]*)"') or ''] = true
      end
      -- The oldest last: it is next.
      for place = #ids, 1, -1 do
        local id = ids[place]
        if not waiting[id] then
          local row = read(id)
          redis.call('ZREM', key('running'), id)
          redis.call('ZREM', released, id)
          if row then
            redis.call('RPUSH', list, row.message)
            redis.call('ZADD', released, now(), id)
            swept = swept + 1
          end
        end
      end
    end
    pump(queue)
  end
  return swept
end

return operations[ARGV[2]](unpack(ARGV, 3))
