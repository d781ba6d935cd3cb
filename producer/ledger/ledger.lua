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
-- Seconds an upload waits for its job, as contract.py has it.
local UPLOAD_TTL_S = 3600
-- Messages that are looked through, the next ones first: other programs' may stand there as well.
local LOOK_THROUGH = 500
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

-- Bytes of a row in which its first two lines end, nearly always.
local HEAD_BYTES = 8192

local function parse(text)
  local head, message, asked = text:match('^([^\n]*)\n([^\n]*)\n(.*)$')
  local items, queue, submitter, blobs = head:match('^(%d+) (%S+) (%S+)(.*)$')
  return {
    text = text, message = message, asked = asked,
    items = tonumber(items), queue = queue, submitter = submitter, blobs = blobs,
  }
end

-- Tells one time that a job was entered from another under the same id.
local function entry_of(row)
  return row.message:match('"entry":"([^"]*)"') or ''
end

local function read(id)
  local text = redis.call('GET', key('job:' .. id))
  return text and parse(text) or nil
end

-- A row without what is asked, which can be long.
local function read_head(id)
  local text = redis.call('GETRANGE', key('job:' .. id), 0, HEAD_BYTES - 1)
  if text == '' then return nil end
  return text:find('\n[^\n]*\n') and parse(text) or read(id)
end

local function is_open(id)
  return redis.call('ZSCORE', key('open'), id)
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
    -- It may have been forgotten since, and even been entered anew, which put it here twice.
    local waits = id and is_open(id) and not redis.call('ZSCORE', released, id)
      and not redis.call('ZSCORE', key('running'), id)
    local row = waits and read_head(id)
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

-- Jobs that name it, its bytes, and until when (Unix s) one that has ended wants it kept.
local function users_of(sha)
  local held = redis.call('HGET', key('blob-users'), sha)
  if not held then return 0, 0, 0 end
  local count, bytes, keep = held:match('^(%d+) (%d+) ?(%d*)$')
  return tonumber(count), tonumber(bytes), tonumber(keep) or 0
end

local function set_users(sha, count, bytes, keep)
  redis.call('HSET', key('blob-users'), sha, string.format('%d %d %d', count, bytes, keep))
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
    local count, bytes, keep = users_of(sha)
    if bytes == 0 then
      bytes = redis.call('STRLEN', key('blob:' .. sha))
      if bytes > 0 then redis.call('HINCRBY', key('depth'), 'blob_bytes', bytes) end
    end
    local left = redis.call('TTL', key('blob:' .. sha))
    -- Longer than an upload waits for its job: one that failed wants it.
    if left > UPLOAD_TTL_S then keep = math.max(keep, math.floor(now()) + left) end
    redis.call('PERSIST', key('blob:' .. sha))
    set_users(sha, count + 1, bytes, keep)
  end
end

local function less(field, by)
  -- Lua has a -0, which is no number for Redis.
  if redis.call('HINCRBY', key('depth'), field, 0 - by) <= 0 then
    redis.call('HDEL', key('depth'), field)
  end
end

local function let_blobs_go(blobs, ttl_s)
  for sha in blobs:gmatch('%S+') do
    local count, bytes, keep = users_of(sha)
    keep = math.max(keep, math.floor(now()) + tonumber(ttl_s))
    if count > 1 then
      set_users(sha, count - 1, bytes, keep)
    elseif count == 1 then
      redis.call('HDEL', key('blob-users'), sha)
      redis.call('EXPIRE', key('blob:' .. sha), keep - math.floor(now()))
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
  local row = read_head(id)
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

-- Webhooks: who wants to hear that a job or a batch has ended. `holder` is the hash that says where:
-- a job's note, or a batch's record.

local function holder_of(kind, id)
  return key((kind == 'job' and 'note:' or 'batch:') .. id)
end

local function announce(kind, id)
  local holder = holder_of(kind, id)
  if redis.call('HEXISTS', holder, 'webhook') == 0 then return end
  redis.call('HINCRBY', holder, 'webhook_event', 1)
  redis.call('HSET', holder, 'webhook_tries', 0)
  redis.call('ZADD', key('webhooks'), now(), kind .. ' ' .. id)
end

local function announce_batch(batch)
  local fields = redis.call('HMGET', key('batch:' .. batch), 'submitted', 'done', 'total', 'cut')
  -- What broke off is not complete: its end comes once the same items were submitted again.
  if fields[1] == '1' and not fields[4] and fields[2] == fields[3] then announce('batch', batch) end
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
  announce_batch(batch)
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

-- Whether all of a batch was said to be in.
local function is_whole(record)
  local fields = redis.call('HMGET', record, 'submitted', 'cut')
  return fields[1] == '1' and not fields[2]
end

-- A batch's record, entered if there is none: its fields. `pass` tells the submission that is under
-- way from others of the same batch.
function operations.batch(id, keep_s, record_s, task, chunk_items, options, note, webhook, pass)
  local record = key('batch:' .. id)
  if redis.call('EXISTS', record) == 0 then
    redis.call('HSET', record, 'task', task, 'chunk_items', chunk_items, 'options', options,
      'keep_s', keep_s, 'record_s', record_s, 'total', 0, 'done', 0, 'failed', 0, 'left', 0,
      'submitted', 0, 'heard_at', now(), 'pass', pass)
    if note ~= '' then redis.call('HSET', record, 'note', note) end
    if webhook ~= '' then redis.call('HSET', record, 'webhook', webhook) end
    redis.call('EXPIRE', record, record_s)
    redis.call('DEL', key('cancelled:' .. id))
  end
  return redis.call('HGETALL', record)
end

-- The same items are submitted once more: from now on this pass alone may say that it was cut short.
function operations.go_on(id, pass)
  claim_room()
  local record = key('batch:' .. id)
  if redis.call('EXISTS', record) == 0 or is_whole(record) then return end
  redis.call('HDEL', record, 'cut')
  redis.call('HSET', record, 'submitted', 0, 'pass', pass)
end

-- All of a batch is in. Returns its items, or -1 where there is no such batch any more.
function operations.submitted(id)
  claim_room()
  local record = key('batch:' .. id)
  local total = redis.call('HGET', record, 'total')
  if not total then return -1 end
  if not is_whole(record) then
    redis.call('HDEL', record, 'cut', 'pass')
    redis.call('HSET', record, 'submitted', 1)
    announce_batch(id)
  end
  return tonumber(total)
end

-- A pass over a batch was cut short; the same items may still be submitted again. Nothing where all
-- is in, or where another pass has begun since.
function operations.cut(id, pass)
  claim_room()
  local record = key('batch:' .. id)
  if redis.call('EXISTS', record) == 0 or is_whole(record) then return end
  local under_way = redis.call('HGET', record, 'pass')
  if under_way and under_way ~= pass then return end
  redis.call('HDEL', record, 'pass')
  redis.call('HSET', record, 'submitted', 1, 'cut', 1)
end

-- Whether a chunk is in already, or cannot be: an answer, or nothing and the batch's items with it.
local function check_chunk(id, row, batch, number)
  local record = key('batch:' .. batch)
  local fields = redis.call('HMGET', record, 'chunk_items', 'total', 'submitted', 'retried', 'cut')
  if not fields[1] then return 'deleted' end
  local chunk_items, total = tonumber(fields[1]), tonumber(fields[2])
  local first = number * chunk_items
  if first < total then
    -- It is in: as large as the others, or as what is left for the last one.
    if row.items ~= math.min(chunk_items, total - first) then return 'differs' end
    if redis.call('GETBIT', record .. ':done', number) == 1 then return 'known' end
    local held = read(id)
    -- A failover may have lost it.
    if not held then return nil, total end
    return (held.asked == row.asked or fields[4]) and 'known' or 'differs'
  end
  -- One after another: a batch has no holes.
  if first > total then return 'full' end
  if fields[3] == '1' then
    if not fields[5] then return 'differs' end
    redis.call('HDEL', record, 'cut')
    redis.call('HSET', record, 'submitted', 0)
  end
  return nil, first + row.items
end

-- Whether a job is in already. `digest` tells what is asked from everything else; '' tells nothing.
local function check_job(id, digest)
  local noted = redis.call('HGET', key('note:' .. id), 'digest')
  if noted and noted ~= '' and digest ~= '' then return noted == digest and 'known' or 'differs' end
  local held = redis.call('EXISTS', key('job:' .. id), prefix .. 'celery-task-meta-' .. id) > 0
  return (held or noted) and 'known' or nil
end

-- Enter a job. `known`: it was entered before; `differs`: as something else. Of a job that is no
-- chunk, a note is kept as long as a batch's record, where there is anything to note. Those who
-- listen at `channel` are told of it, where there is an `event` to tell.
function operations.enter(
    id, text, max_items, max_blob_bytes, batch, number, note, digest, webhook, channel, event)
  local row = parse(text)
  local total, answer
  if batch ~= '' then
    answer, total = check_chunk(id, row, batch, tonumber(number))
  else
    answer = check_job(id, digest)
  end
  if answer then return answer end
  local full = refusal(row, tonumber(max_items), tonumber(max_blob_bytes))
  if full then return full end
  open(id, row)
  if batch ~= '' then
    open_chunk(batch)
    redis.call('HSET', key('batch:' .. batch), 'total', total, 'heard_at', now())
  elseif note ~= '' or digest ~= '' or webhook ~= '' then
    redis.call('HSET', key('note:' .. id), 'note', note, 'digest', digest)
    if webhook ~= '' then redis.call('HSET', key('note:' .. id), 'webhook', webhook) end
  end
  wait_in_lane(id, row)
  -- The job is in, whatever forbids to tell of it.
  if event ~= '' then redis.pcall('PUBLISH', channel, event) end
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

-- Ask an ended job again, as its new row says. Returns 0 where it is open, where nothing is kept of
-- it, and where it is not the one that was seen, since somebody else asked it again.
function operations.again(id, text, seen)
  local held = read(id)
  if not held then return 0 end
  if held.text == text then return 1 end
  if is_open(id) or entry_of(held) ~= seen then return 0 end
  local row = parse(text)
  open(id, row)
  redis.call('DEL', prefix .. 'celery-task-meta-' .. id, key('cancelled:' .. id))
  redis.call('ZREM', key('dead'), id)
  local batch, number = chunk_of(id)
  if batch then
    local keys = batch_keys(batch)
    local failed = tonumber(redis.call('HGET', keys[3], number) or 0)
    open_chunk(batch)
    redis.call('SETBIT', keys[2], number, 0)
    redis.call('HDEL', keys[3], number)
    redis.call('HINCRBY', keys[1], 'done', 0 - row.items)
    redis.call('HINCRBY', keys[1], 'failed', 0 - failed)
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
    redis.call('DEL', key('job:' .. id), key('note:' .. id), prefix .. 'celery-task-meta-' .. id)
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
--
-- `entry` is what the message says of the row that it belongs to, '' in other programs' messages;
-- `call` is the same when a call whose answer was lost is made again.
function operations.begin(id, entry, call, lease_s)
  claim_room()
  local running = key('running')
  local row = is_open(id) and read(id)
  if row and entry ~= '' and entry_of(row) ~= entry then return { 'gone' } end
  local result = redis.call('GET', prefix .. 'celery-task-meta-' .. id)
  if result then
    if not row then redis.call('ZREM', running, id) end
    return { 'done', result }
  end
  local batch = id:match('^(.*):%d+$')
  local cancelled = redis.call('EXISTS', key('cancelled:' .. id), key('cancelled:' .. (batch or id)))
  if not row then
    if entry ~= '' then return { 'gone' } end
    redis.call('ZADD', running, now(), id)
    return { 'run', cancelled, 1, '{}', '' }
  end
  local begun = redis.call('HGET', key('attempts'), id) or '0'
  local attempts, by = begun:match('^(%d+) ?(.*)$')
  attempts = tonumber(attempts)
  if by ~= call then
    local alive_at = redis.call('ZSCORE', running, id)
    if alive_at and now() - tonumber(alive_at) < tonumber(lease_s) then return { 'busy' } end
    attempts = attempts + 1
    redis.call('HSET', key('attempts'), id, attempts .. ' ' .. call)
  end
  redis.call('ZREM', key(row.queue .. ':released'), id)
  redis.call('ZADD', running, now(), id)
  pump(row.queue)
  return { 'run', cancelled, attempts, redis.call('HGET', key('suspects'), id) or '{}', row.asked }
end

-- Note which item is tried now.
function operations.suspect(id, suspects)
  claim_room()
  if is_open(id) then redis.call('HSET', key('suspects'), id, suspects) end
end

-- A sign of life for running jobs. Returns those that somebody has cancelled.
function operations.beat(...)
  claim_room()
  local cancelled = {}
  for _, id in ipairs({ ... }) do
    local row = not redis.call('ZSCORE', key('running'), id) and is_open(id) and read_head(id)
    if row then
      -- It was given up after an outage, and nobody else has begun it.
      if redis.call('ZREM', key(row.queue .. ':released'), id) == 1 then
        redis.call('ZADD', key('running'), now(), id)
      end
    end
    redis.call('ZADD', key('running'), 'XX', now(), id)
    local batch = id:match('^(.*):%d+$')
    if redis.call('EXISTS', key('cancelled:' .. id), key('cancelled:' .. (batch or id))) > 0 then
      table.insert(cancelled, id)
    end
  end
  return cancelled
end

-- Store a job's result, tell those who wait for it, and close its row. The first result stays.
function operations.finish(id, entry, stored, ttl_s, record_s, failed, dead, blob_ttl_s)
  claim_room()
  failed = tonumber(failed)
  local batch, number = chunk_of(id)
  local held = is_open(id) and read_head(id)
  -- Of an earlier time that it was asked.
  if held and entry ~= '' and entry_of(held) ~= entry then return end
  local name = id:match('^(.*):%d+$')
  -- Of a batch that was deleted meanwhile.
  if not held and name and not batch
      and redis.call('EXISTS', key('cancelled:' .. name)) == 1 then
    redis.call('ZREM', key('running'), id)
    return
  end
  ttl_s = batch and redis.call('HGET', key('batch:' .. batch), 'keep_s') or ttl_s
  local result = prefix .. 'celery-task-meta-' .. id
  if redis.call('SET', result, stored, 'NX', 'EX', ttl_s) then
    redis.call('PUBLISH', result, stored)
  end
  if failed < 0 then failed = held and held.items or 1 end
  -- What is asked again needs its images again.
  local row = close(id, failed == 0 and blob_ttl_s or ttl_s)
  if not row then
    redis.call('ZREM', key('running'), id)
    return
  end
  if failed > 0 then
    redis.call('EXPIRE', key('job:' .. id), ttl_s)
  else
    redis.call('DEL', key('job:' .. id))
  end
  if dead == '1' then bury(id, tonumber(ttl_s)) end
  if batch then
    close_chunk(batch, number, row.items, failed)
  else
    announce('job', id)
    redis.call('EXPIRE', key('note:' .. id), record_s)
  end
  pump(row.queue)
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
    local row = is_open(id) and read_head(id)
    if row then
      table.insert(silent[row.queue], id)
    else
      redis.call('ZREM', key('running'), id)
    end
  end
  local swept = 0
  for queue, ids in pairs(silent) do
    local list, released = prefix .. queue, key(queue .. ':released')
    if #ids > 0 then
      local waiting = {}
      for _, message in ipairs(redis.call('LRANGE', list, -LOOK_THROUGH, -1)) do
        waiting[message:match('"id": ?"([^"]*)"') or ''] = true
      end
      -- The oldest last: it is next.
      for place = #ids, 1, -1 do
        local id = ids[place]
        if not waiting[id] then
          local row = is_open(id) and read_head(id)
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

-- What those do who send webhooks.

-- Those that are due, each for its sender alone for `lease_s`: what ended, how often that happened,
-- how often it was told already, where to, and the note that it was submitted with.
function operations.webhooks_due(most, lease_s)
  claim_room()
  local due = {}
  for _, member in ipairs(redis.call(
      'ZRANGEBYSCORE', key('webhooks'), '-inf', now(), 'LIMIT', 0, most)) do
    local kind, id = member:match('^(%S+) (.*)$')
    local holder = holder_of(kind, id)
    local fields = redis.call(
      'HMGET', holder, 'webhook', 'webhook_event', 'webhook_tries', 'note')
    if fields[1] then
      redis.call('ZADD', key('webhooks'), now() + lease_s, member)
      redis.call('HINCRBY', holder, 'webhook_tries', 1)
      table.insert(due, { kind, id, fields[1], fields[2], fields[3], fields[4] or '' })
    else
      redis.call('ZREM', key('webhooks'), member)
    end
  end
  return due
end

-- One was told, or is to be told again after `pause_s`, or, below 0, never; `about` says how it went.
-- Not where it has ended once more meanwhile.
function operations.webhook_told(kind, id, event, pause_s, about)
  claim_room()
  local holder, member = holder_of(kind, id), kind .. ' ' .. id
  if redis.call('HGET', holder, 'webhook_event') ~= event then return end
  redis.call('HSET', holder, 'webhook_told', about)
  if tonumber(pause_s) < 0 then
    redis.call('ZREM', key('webhooks'), member)
  else
    redis.call('ZADD', key('webhooks'), 'XX', now() + pause_s, member)
  end
end

-- One had no turn yet; it comes again after `pause_s`, and that was no try.
function operations.webhook_put_off(kind, id, event, pause_s)
  claim_room()
  local holder, member = holder_of(kind, id), kind .. ' ' .. id
  if redis.call('HGET', holder, 'webhook_event') ~= event then return end
  redis.call('HINCRBY', holder, 'webhook_tries', -1)
  redis.call('ZADD', key('webhooks'), 'XX', now() + pause_s, member)
end

return operations[ARGV[2]](unpack(ARGV, 3))
