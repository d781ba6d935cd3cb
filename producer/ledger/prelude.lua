-- The ledger's script. Each change of the job store is one call, so clients never observe a partial
-- change.
--
-- ARGV: the deployment's key prefix, an operation, its arguments. keys.py names the same keys;
-- script.py concatenates the parts. A local function is visible in all later parts.
--
-- A job record has three parts, each but the last one line:
--   <items> <queue> <submitter> [<sha256 of an uploaded image> ...]
--   the Celery message
--   the payload, as JSON
--
-- A job without a result is in `open`, and in exactly one of three places: its submitter's queue,
-- `released` (Celery holds its message), or `running`. Celery can lose messages. The sweep redelivers
-- a released or running job after a lease without a heartbeat.

local prefix = ARGV[1]
local operations = {}

local function key(name)
  return prefix .. 'blipline:' .. name
end

local function now()
  local time = redis.call('TIME')
  return tonumber(time[1]) + tonumber(time[2]) / 1e6
end

-- A full Redis rejects the first write of a script that needs memory, and allows all writes after a
-- successful one. Operations that end work or protect it from loss begin with this write, which
-- needs none.
local function ensure_writable()
  redis.call('ZREM', key('running'), '')
end

local function decrement(field, by)
  -- `-by` can be Lua's -0, which Redis rejects.
  if redis.call('HINCRBY', key('depth'), field, 0 - by) <= 0 then
    redis.call('HDEL', key('depth'), field)
  end
end

-- Job records.

-- Bytes that contain the first two lines of nearly every record.
local HEAD_BYTES = 8192

local function parse(text)
  local head, message, payload = text:match('^([^\n]*)\n([^\n]*)\n(.*)$')
  local items, queue, submitter, blobs = head:match('^(%d+) (%S+) (%S+)(.*)$')
  return {
    text = text, message = message, payload = payload,
    items = tonumber(items), queue = queue, submitter = submitter, blobs = blobs,
  }
end

-- The token of a record's current run: an id can be enqueued again.
local function generation_of(record)
  return record.message:match('"entry":"([^"]*)"') or ''
end

-- Seconds from the submission to the deadline; nil if the job has none.
local function deadline_s_of(record)
  return tonumber(record.message:match('"deadline_s":([%d.e+-]+)'))
end

local function read_record(id)
  local text = redis.call('GET', key('job:' .. id))
  return text and parse(text) or nil
end

-- Read a record without its payload, which can be long.
local function read_head(id)
  local text = redis.call('GETRANGE', key('job:' .. id), 0, HEAD_BYTES - 1)
  if text == '' then return nil end
  return text:find('\n[^\n]*\n') and parse(text) or read_record(id)
end

local function is_open(id)
  return redis.call('ZSCORE', key('open'), id)
end

-- Return 1 or 2 if the job, or the batch that it is a chunk of, was cancelled; otherwise 0.
local function is_cancelled(id)
  local batch = id:match('^(.*):%d+$')
  return redis.call('EXISTS', key('cancelled:' .. id), key('cancelled:' .. (batch or id)))
end

-- Return the existing batch that a job is a chunk of, and the chunk's number.
local function chunk_of(id)
  local batch, number = id:match('^(.*):(%d+)$')
  if batch and redis.call('EXISTS', key('batch:' .. batch)) == 1 then
    return batch, tonumber(number)
  end
end
