-- Statistics of the whole job store, for monitoring. They read a bounded number of entries, and
-- write nothing.

-- Maximum jobs, and submitters of a queue, that the oldest waiting job is searched among; the jobs at
-- the head of a submitter's queue, which may be deleted ones; and records that are read for that.
local WAITING_LIMIT = 128
local WAITING_HEADS = 4
local WAITING_RECORDS = 16
-- Maximum open batches whose items are counted.
local BATCH_LIMIT = 500

-- Call `examine` with the queue, the id and the time of submission of jobs that no consumer runs: the
-- oldest ones of all, those that Celery holds, and the next ones of submitters.
local function each_waiting_job(examine)
  local reads = 0
  for _, id in ipairs(redis.call('ZRANGE', key('open'), 0, WAITING_LIMIT - 1)) do
    if reads < WAITING_RECORDS and not redis.call('ZSCORE', key('running'), id) then
      reads = reads + 1
      local record = read_head(id)
      if record then examine(record.queue, id) end
    end
  end
  for _, queue in ipairs({ 'interactive', 'bulk' }) do
    local ids = redis.call('ZRANGE', key(queue .. ':released'), 0, WAITING_LIMIT - 1)
    for _, id in ipairs(ids) do examine(queue, id) end
    for _, submitter in ipairs(redis.call('ZRANGE', key(queue .. ':turns'), 0, WAITING_LIMIT - 1)) do
      local lane = key(queue .. ':lane:' .. submitter)
      for _, id in ipairs(redis.call('LRANGE', lane, -WAITING_HEADS, -1)) do examine(queue, id) end
    end
  end
end

-- Return the seconds since the submission of each queue's oldest waiting job; 0 if none waits.
local function oldest_waiting_s()
  local opened_at, waiting_s = {}, {}
  each_waiting_job(function(queue, id)
    local time = is_open(id)
    if time then opened_at[queue] = math.min(opened_at[queue] or math.huge, tonumber(time)) end
  end)
  for _, queue in ipairs({ 'interactive', 'bulk' }) do
    waiting_s[queue] = opened_at[queue] and math.max(0, now() - opened_at[queue]) or 0
  end
  return waiting_s
end

-- Return the open batches, and the items of BATCH_LIMIT of them that are open, done and failed.
local function batch_progress()
  local index, missing = key('open-batches'), 0
  local open, done, failed = 0, 0, 0
  for _, batch in ipairs(redis.call('ZREVRANGE', index, 0, BATCH_LIMIT - 1)) do
    local fields = redis.call('HMGET', key('batch:' .. batch), 'total', 'done', 'failed')
    if fields[1] then
      open = open + tonumber(fields[1]) - tonumber(fields[2])
      done = done + tonumber(fields[2]) - tonumber(fields[3])
      failed = failed + tonumber(fields[3])
    else
      missing = missing + 1
    end
  end
  return redis.call('ZCARD', index) - missing, open, done, failed
end

-- Return names and numbers alternately. A worker without a sign of life for `alive_s` is not counted.
function operations.statistics(alive_s)
  local depth = redis.call('HMGET', key('depth'), 'interactive', 'bulk', 'blob_bytes')
  local batches, open, done, failed = batch_progress()
  local waiting_s = oldest_waiting_s()
  local numbers = {
    interactive_items = depth[1] or 0,
    bulk_items = depth[2] or 0,
    image_bytes = depth[3] or 0,
    interactive_waiting_s = waiting_s.interactive,
    bulk_waiting_s = waiting_s.bulk,
    open_jobs = redis.call('ZCARD', key('open')),
    running_jobs = redis.call('ZCARD', key('running')),
    stored_bytes = redis.call('HGET', key('usage'), '*') or 0,
    open_batches = batches,
    open_batch_items = open,
    done_batch_items = done,
    failed_batch_items = failed,
    pending_webhooks = redis.call('ZCARD', key('webhooks')),
    workers = redis.call('ZCOUNT', key('workers'), '(' .. now() - alive_s, '+inf'),
    dead_jobs = redis.call('ZCARD', key('dead')),
    malformed_messages = redis.call('LLEN', key('malformed')),
  }
  local answer = {}
  for name, number in pairs(numbers) do
    table.insert(answer, name)
    table.insert(answer, tostring(number))
  end
  return answer
end
