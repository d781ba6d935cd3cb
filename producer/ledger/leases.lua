-- Leases: consumers claim jobs, send heartbeats, store results and redeliver lost jobs.

-- Maximum messages that a sweep searches, from the head of Celery's list, which can also contain
-- other programs' messages.
local SEARCHED_MESSAGES = 500
-- Maximum lost jobs that one sweep redelivers: a script blocks all other clients.
local SWEEP_LIMIT = 200

-- Claim a job whose message a consumer received. Return one of:
--   done, the stored result        the consumer returns that result
--   busy                           another consumer runs the job, or a sweep will redeliver it
--   gone                           the job was deleted or requeued
--   run, cancelled, attempts, suspects as JSON, payload
--
-- `generation` is that of the message, '' in other programs' messages. `call` identifies the call: a
-- retry after a lost response has the same value.
function operations.claim(id, generation, call, lease_s)
  ensure_writable()
  local running = key('running')
  local record = is_open(id) and read_record(id)
  if record and generation ~= '' and generation_of(record) ~= generation then return { 'gone' } end
  local result = redis.call('GET', prefix .. 'celery-task-meta-' .. id)
  if result then
    if not record then redis.call('ZREM', running, id) end
    return { 'done', result }
  end
  local cancelled = is_cancelled(id)
  if not record then
    if generation ~= '' then return { 'gone' } end
    redis.call('ZADD', running, now(), id)
    return { 'run', cancelled, 1, '{}', '' }
  end
  local claims = redis.call('HGET', key('attempts'), id) or '0'
  local attempts, last_call = claims:match('^(%d+) ?(.*)$')
  attempts = tonumber(attempts)
  if last_call ~= call then
    local heartbeat_at = redis.call('ZSCORE', running, id)
    if heartbeat_at and now() - tonumber(heartbeat_at) < tonumber(lease_s) then
      return { 'busy' }
    end
    attempts = attempts + 1
    redis.call('HSET', key('attempts'), id, attempts .. ' ' .. call)
  end
  redis.call('ZREM', key(record.queue .. ':released'), id)
  redis.call('ZADD', running, now(), id)
  dispatch(record.queue)
  local suspects = redis.call('HGET', key('suspects'), id) or '{}'
  return { 'run', cancelled, attempts, suspects, record.payload }
end

-- Store the index of the item about to be processed, with the deaths of earlier consumers.
function operations.mark_suspect(id, suspects)
  ensure_writable()
  if is_open(id) then redis.call('HSET', key('suspects'), id, suspects) end
end

-- Renew the leases of running jobs. Return those that were cancelled.
function operations.heartbeat(...)
  ensure_writable()
  local cancelled = {}
  for _, id in ipairs({ ... }) do
    local record = not redis.call('ZSCORE', key('running'), id) and is_open(id) and read_head(id)
    if record then
      -- A sweep redelivered it after an outage, and no consumer has claimed it since.
      if redis.call('ZREM', key(record.queue .. ':released'), id) == 1 then
        redis.call('ZADD', key('running'), now(), id)
      end
    end
    redis.call('ZADD', key('running'), 'XX', now(), id)
    if is_cancelled(id) > 0 then table.insert(cancelled, id) end
  end
  return cancelled
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
  -- The result belongs to an earlier generation.
  if opened and generation ~= '' and generation_of(opened) ~= generation then return end
  local batch_id = id:match('^(.*):%d+$')
  -- The batch was deleted meanwhile.
  if not opened and batch_id and not batch
      and redis.call('EXISTS', key('cancelled:' .. batch_id)) == 1 then
    redis.call('ZREM', key('running'), id)
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
    redis.call('ZREM', key('running'), id)
    return
  end
  if failed > 0 then
    redis.call('EXPIRE', key('job:' .. id), ttl_s)
  else
    redis.call('DEL', key('job:' .. id))
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
      redis.call('ZREM', key('running'), id)
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
