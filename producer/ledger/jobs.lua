-- Jobs: enqueue, requeue, cancel, delete.

local function open_job(id, record)
  -- Make the writes that a full Redis rejects first, so that a rejection changes nothing.
  redis.call('ZADD', key('open'), now(), id)
  redis.call('SET', key('job:' .. id), record.text)
  redis.call('HINCRBY', key('depth'), record.queue, record.items)
  retain_blobs(id, record.blobs)
  local deadline_s = deadline_s_of(record)
  if deadline_s then redis.call('ZADD', key('deadlines'), now() + deadline_s, id) end
  -- The mark belongs to an earlier run under this id.
  redis.call('DEL', key('cancelled:' .. id))
end

-- Close a job. Return its record if the job was open.
local function close_job(id, blob_ttl_s)
  if redis.call('ZREM', key('open'), id) == 0 then return nil end
  local record = read_head(id)
  redis.call('ZREM', key('running'), id)
  redis.call('HDEL', key('attempts'), id)
  redis.call('HDEL', key('suspects'), id)
  redis.call('ZREM', key('deadlines'), id)
  if record then
    if redis.call('ZREM', key(record.queue .. ':released'), id) == 1 then
      -- No consumer has taken its message: without a worker, such messages would fill the list.
      redis.call('LREM', prefix .. record.queue, -1, record.message)
    end
    decrement(record.queue, record.items)
    release_blobs(id, record.blobs, blob_ttl_s)
  end
  return record
end

-- Return the status of a job that exceeds the capacity; a limit of 0 means unlimited. An empty queue
-- accepts a job of any size, which would otherwise wait forever.
local function capacity_error(record, max_items, max_blob_bytes)
  local depth = redis.call('HMGET', key('depth'), record.queue, 'blob_bytes')
  local items, bytes = tonumber(depth[1] or 0), tonumber(depth[2] or 0)
  if max_items > 0 and items > 0 and items + record.items > max_items then return 'full' end
  if max_blob_bytes > 0 and bytes > 0 and record.blobs ~= ''
      and bytes + new_blob_bytes(record.blobs) > max_blob_bytes then
    return 'blobs_full'
  end
end

-- Return the status of a job that was enqueued before; otherwise nil. `digest` identifies the
-- payload; '' matches any payload.
local function check_job(id, digest)
  local stored = redis.call('HGET', key('note:' .. id), 'digest')
  if stored and stored ~= '' and digest ~= '' then
    return stored == digest and 'known' or 'differs'
  end
  local exists = redis.call('EXISTS', key('job:' .. id), prefix .. 'celery-task-meta-' .. id) > 0
  return (exists or stored) and 'known' or nil
end

-- Delete Celery's own result of a revocation: it came before the job of this id.
local function delete_revocation(id)
  local result = prefix .. 'celery-task-meta-' .. id
  local stored = redis.call('GET', result)
  if stored and stored:find('^{"status": ?"REVOKED"') then redis.call('DEL', result) end
end

-- Enqueue a job and return its status. `known`: the id was enqueued before; `differs`: with another
-- payload, of which `digest` is a hash; `blob_unknown`: its account has not uploaded an image that it
-- names; `cancelled`: the chunk was enqueued, and its batch is cancelled. `result_bytes` are reserved
-- for its result in the account's usage. The metadata of a single job, unless empty, is stored as
-- long as a batch record.
-- Subscribers of `channel` receive `event`, unless it is ''.
function operations.enqueue(
    id, text, max_items, max_blob_bytes, max_account_bytes, max_total_bytes, result_bytes, batch,
    number, metadata, digest, webhook, channel, event)
  local record, account = parse(text), account_of(id)
  local total, status
  delete_revocation(id)
  if batch ~= '' then
    status, total = check_chunk(id, record, batch, tonumber(number), digest)
  else
    status = check_job(id, digest)
  end
  if status then return status end
  local full = capacity_error(record, tonumber(max_items), tonumber(max_blob_bytes))
  if full then return full end
  if account then
    if names_unknown_image(account, record.blobs) then return 'blob_unknown' end
    local bytes = ENTRY_BYTES + #text + #metadata + #digest + #webhook + tonumber(result_bytes)
    full = lasting_quota_error(account, bytes, max_account_bytes, max_total_bytes)
    if full then return full end
  end
  open_job(id, record)
  if batch ~= '' then
    open_chunk(batch)
    redis.call('HSET', key('batch:' .. batch), 'total', total, 'heard_at', now())
    if digest ~= '' then store_chunk_digest(batch, number, digest) end
  elseif metadata ~= '' or digest ~= '' or webhook ~= '' then
    redis.call('HSET', key('note:' .. id), 'note', metadata, 'digest', digest)
    if webhook ~= '' then redis.call('HSET', key('note:' .. id), 'webhook', webhook) end
  end
  enqueue_for_submitter(id, record)
  measure(id, result_bytes)
  if account then measure_due(DUE_LIMIT) end
  -- pcall: the job is enqueued even if the user may not publish.
  if event ~= '' then redis.pcall('PUBLISH', channel, event) end
  return is_cancelled(id) > 0 and 'cancelled' or 'entered'
end

-- Enqueue an ended job with a new record. Return 0 if the job is open, has no record, is a chunk of a
-- cancelled batch, or is no longer of the generation `seen`, since another client requeued it.
function operations.requeue(id, text, seen, result_bytes)
  local stored = read_record(id)
  if not stored then return 0 end
  if stored.text == text then return 1 end
  if is_open(id) or generation_of(stored) ~= seen then return 0 end
  local batch, number = chunk_of(id)
  if batch and is_cancelled(batch) > 0 then return 0 end
  local record = parse(text)
  open_job(id, record)
  redis.call('DEL', prefix .. 'celery-task-meta-' .. id)
  redis.call('ZREM', key('dead'), id)
  if batch then reopen_chunk(batch, number, record.items) end
  enqueue_for_submitter(id, record)
  measure(id, result_bytes)
  return 1
end

-- Length of the digests in `answers-of:<id>`, as in worker/consumer/result_cache.py.
local ANSWER_DIGEST_CHARS = 32
-- Cached results after which a call deletes no further job: a script blocks all other clients.
local ERASED_LIMIT = 2048

-- Delete the cached results that a job has stored or used; return the number of its digests.
local function erase_answers(id)
  local digests = redis.call('GET', key('answers-of:' .. id)) or ''
  for at = 1, #digests, ANSWER_DIGEST_CHARS do
    redis.call('DEL', key('answer:' .. digests:sub(at, at + ANSWER_DIGEST_CHARS - 1)))
  end
  redis.call('DEL', key('answers-of:' .. id))
  return #digests / ANSWER_DIGEST_CHARS
end

-- Return the uploaded images of a job: those of its record, which success deletes, or of its list.
local function images_of(id)
  local record = read_head(id)
  return record and record.blobs or redis.call('GET', key('images-of:' .. id)) or ''
end

local function delete_job(id, blob_ttl_s, mark_s)
  local runs = redis.call('ZSCORE', key('running'), id)
  close_job(id, blob_ttl_s)
  redis.call('ZREM', key('dead'), id)
  redis.call('DEL', key('job:' .. id), key('note:' .. id), key('cancelled:' .. id),
    key('text:' .. id), key('images-of:' .. id), prefix .. 'celery-task-meta-' .. id)
  if runs and is_cancelled(id) == 0 then
    redis.call('SET', key('cancelled:' .. id), 1, 'EX', mark_s)
  end
  measure(id)
end

-- Delete jobs with their records, metadata and results and, unless `keep_cached` is 1, with their
-- cached results and images (see `erase_blob`). A consumer that runs one finds a mark, stops and
-- stores no result; without its lease and its list, it caches none. Return the jobs that remain to be
-- deleted.
function operations.delete_jobs(blob_ttl_s, mark_s, keep_cached, ...)
  ensure_writable()
  local erased, remaining = 0, {}
  for _, id in ipairs({ ... }) do
    if erased < ERASED_LIMIT then
      local blobs = images_of(id)
      if keep_cached == '1' then
        redis.call('DEL', key('answers-of:' .. id))
      else
        erased = erased + erase_answers(id)
      end
      delete_job(id, blob_ttl_s, mark_s)
      if keep_cached ~= '1' and blobs ~= '' then erased = erased + erase_blobs(id, blobs) end
    else
      table.insert(remaining, id)
    end
  end
  dispatch('interactive')
  dispatch('bulk')
  return remaining
end
