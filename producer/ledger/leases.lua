-- Leases: consumers claim jobs, send heartbeats, store results and redeliver lost jobs.

-- Maximum messages that a sweep searches, from the head of Celery's list, which can also contain
-- other programs' messages.
local SEARCHED_MESSAGES = 500
-- Maximum lost jobs that one sweep redelivers: a script blocks all other clients.
local SWEEP_LIMIT = 200
-- Maximum open batches that one sweep checks.
local BATCH_CHECK_LIMIT = 64

-- Remove the lease of a job that is not open, or of another program's message.
local function forget_run(id)
  redis.call('ZREM', key('running'), id)
  redis.call('HDEL', key('attempts'), id)
end

-- Claim a job whose message a consumer received. Return one of:
--   done, the stored result        the consumer returns that result
--   busy                           another consumer runs the job, or a sweep will redeliver it
--   gone                           the job was deleted or requeued
--   run, cancelled, attempts, suspects as JSON, payload, time, deadline, time of the submission
--
-- `generation` is that of the message, '' in other programs' messages. `call` identifies the call: a
-- retry after a lost response has the same value. `started_at` is stored as it is, by the consumer's
-- clock; the other times are Unix seconds by this server's clock.
function operations.claim(id, generation, call, lease_s, started_at)
  ensure_writable()
  local running = key('running')
  local record = is_open(id) and read_record(id)
  if record and generation ~= '' and generation_of(record) ~= generation then return { 'gone' } end
  local result = redis.call('GET', prefix .. 'celery-task-meta-' .. id)
  if result then
    if not record then forget_run(id) end
    return { 'done', result }
  end
  local cancelled = is_cancelled(id)
  if not record and generation ~= '' then return { 'gone' } end
  local claims = redis.call('HGET', key('attempts'), id) or '0'
  local attempts, last_call = claims:match('^(%d+) ?(%S*)')
  attempts = tonumber(attempts)
  if last_call ~= call then
    local heartbeat_at = redis.call('ZSCORE', running, id)
    if heartbeat_at and now() - tonumber(heartbeat_at) < tonumber(lease_s) then
      return { 'busy' }
    end
    attempts = attempts + 1
    redis.call('HSET', key('attempts'), id, attempts .. ' ' .. call .. ' ' .. started_at)
  end
  if record then redis.call('ZREM', key(record.queue .. ':released'), id) end
  redis.call('ZADD', running, now(), id)
  if record then
    dispatch(record.queue)
    start_batch(id)
  end
  local suspects = redis.call('HGET', key('suspects'), id) or '{}'
  return { 'run', cancelled, attempts, suspects, record and record.payload or '',
    string.format('%.3f', now()), redis.call('ZSCORE', key('deadlines'), id) or '',
    record and is_open(id) or '' }
end

-- Register a consumer of a worker as alive.
function operations.report_worker(worker, alive_s)
  ensure_writable()
  redis.call('ZADD', key('workers'), now(), worker)
  redis.call('ZREMRANGEBYSCORE', key('workers'), '-inf', now() - alive_s)
  redis.call('EXPIRE', key('workers'), alive_s)
end

-- Register the models of a worker as alive, each as `name@commit`; return those of all workers.
function operations.report_models(alive_s, ...)
  ensure_writable()
  for _, model in ipairs({ ... }) do redis.call('ZADD', key('models'), now(), model) end
  redis.call('ZREMRANGEBYSCORE', key('models'), '-inf', now() - alive_s)
  redis.call('EXPIRE', key('models'), alive_s)
  return redis.call('ZRANGE', key('models'), 0, -1)
end

-- Store the index of the item about to be processed, with the deaths of earlier consumers.
function operations.mark_suspect(id, suspects)
  ensure_writable()
  if is_open(id) then redis.call('HSET', key('suspects'), id, suspects) end
end

-- Renew the leases of running jobs, given as ids and generations. Return those to be stopped, in the
-- same form: they were cancelled, deleted, or queued again as another generation.
function operations.heartbeat(...)
  ensure_writable()
  local arguments, stopped = { ... }, {}
  for index = 1, #arguments, 2 do
    local id, generation = arguments[index], arguments[index + 1]
    local record = is_open(id) and read_head(id)
    local replaced = record and generation ~= '' and generation_of(record) ~= generation
    if not replaced then
      -- A sweep redelivered it after an outage, and no consumer has claimed it since.
      local is_redelivered = record and not redis.call('ZSCORE', key('running'), id)
        and redis.call('ZREM', key(record.queue .. ':released'), id) == 1
      redis.call('ZADD', key('running'), is_redelivered and 'NX' or 'XX', now(), id)
    end
    if replaced or is_cancelled(id) > 0 then
      table.insert(stopped, id)
      table.insert(stopped, generation)
    end
  end
  return stopped
end

-- Add a job to the dead letters, which expire with their records.
local function add_dead_letter(id, ttl_s)
  local dead = key('dead')
  for _, old in ipairs(redis.call('ZRANGE', dead, 0, 1)) do
    if redis.call('EXISTS', key('job:' .. old)) == 0 then redis.call('ZREM', dead, old) end
  end
  redis.call('ZADD', dead, now(), id)
  if redis.call('TTL', dead) < ttl_s then redis.call('EXPIRE', dead, ttl_s) end
end

-- Store a job's result, publish it to waiting clients, and close the job. The first result is kept.
function operations.finish(id, generation, stored, ttl_s, record_s, failed, dead, blob_ttl_s)
  ensure_writable()
  failed = tonumber(failed)
  local batch, number = chunk_of(id)
  local opened = is_open(id) and read_head(id)
  if not opened and end_lost(id) then return end
  -- The result belongs to an earlier generation.
  if opened and generation ~= '' and generation_of(opened) ~= generation then return end
  -- The job or its batch was deleted meanwhile.
  local belongs = generation ~= '' or (id:find(':%d+$') and not batch)
  if not opened and belongs and is_cancelled(id) > 0 then
    forget_run(id)
    return
  end
  ttl_s = batch and redis.call('HGET', key('batch:' .. batch), 'keep_s') or ttl_s
  local result = prefix .. 'celery-task-meta-' .. id
  if redis.call('SET', result, stored, 'NX', 'EX', ttl_s) then
    redis.call('PUBLISH', result, stored)
  end
  if failed < 0 then failed = opened and opened.items or 1 end
  -- A retry of a failed job needs its images again.
  local record = close_job(id, failed == 0 and blob_ttl_s or ttl_s)
  if not record then
    forget_run(id)
    return
  end
  if failed > 0 then
    redis.call('EXPIRE', key('job:' .. id), ttl_s)
  else
    redis.call('DEL', key('job:' .. id))
    if record.blobs ~= '' and tonumber(blob_ttl_s) > 0 then
      -- A deletion of the job erases these images, which expire as soon as this list.
      redis.call('SET', key('images-of:' .. id), record.blobs, 'EX', blob_ttl_s)
    end
  end
  if dead == '1' then add_dead_letter(id, tonumber(ttl_s)) end
  if batch then
    close_chunk(batch, number, record.items, failed)
  else
    add_webhook_event('job', id)
    redis.call('EXPIRE', key('note:' .. id), record_s)
  end
  measure(id)
  dispatch(record.queue)
end

-- Redeliver lost jobs at the head of Celery's list. Return their number.
function operations.sweep(pause_ms, lease_s)
  ensure_writable()
  if not redis.call('SET', key('sweeper'), 1, 'NX', 'PX', pause_ms) then return 0 end
  measure_due(IDLE_DUE_LIMIT)
  prune_open_batches(BATCH_CHECK_LIMIT)
  local expired_at = now() - lease_s
  local expired = { interactive = {}, bulk = {} }
  for queue, ids in pairs(expired) do
    local released = key(queue .. ':released')
    for _, id in ipairs(redis.call(
        'ZRANGEBYSCORE', released, '-inf', expired_at, 'LIMIT', 0, SWEEP_LIMIT)) do
      table.insert(ids, id)
    end
  end
  for _, id in ipairs(redis.call(
      'ZRANGEBYSCORE', key('running'), '-inf', expired_at, 'LIMIT', 0, SWEEP_LIMIT)) do
    local record = is_open(id) and read_head(id)
    if record then
      table.insert(expired[record.queue], id)
    elseif not end_lost(id) then
      forget_run(id)
    end
  end
  local swept = 0
  for queue, ids in pairs(expired) do
    local list, released = prefix .. queue, key(queue .. ':released')
    if #ids > 0 then
      local listed = {}
      for _, message in ipairs(redis.call('LRANGE', list, -SEARCHED_MESSAGES, -1)) do
        listed[message:match('"id": ?"([^"]*)"') or ''] = true
      end
      -- Push the oldest last, so that it is consumed first.
      for index = #ids, 1, -1 do
        local id = ids[index]
        if not listed[id] then
          local record = is_open(id) and read_head(id)
          redis.call('ZREM', key('running'), id)
          redis.call('ZREM', released, id)
          if record then
            redis.call('RPUSH', list, record.message)
            redis.call('ZADD', released, now(), id)
            swept = swept + 1
          else
            end_lost(id)
          end
        end
      end
    end
    dispatch(queue)
  end
  return swept
end
