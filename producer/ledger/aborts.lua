-- Aborts: jobs that end without a consumer's result, since they were cancelled, revoked, or reached
-- their deadline.

-- Seconds during which further revocations of an id are echoes of the first: every consumer receives
-- a revocation, and a retry can be faster than the last of them.
local REVOCATION_S = 10
-- Seconds after which a due job that a consumer runs is examined again.
local RUNNING_PAUSE_S = 1

-- Mark a batch that has not ended, or a running message of another program, as cancelled. Return the
-- number of the batch's chunks, 0 if it is no batch; -1 for a batch that has ended.
function operations.cancel(id, ttl_s)
  ensure_writable()
  local batch = redis.call('HMGET', key('batch:' .. id), 'total', 'chunk_items', 'done')
  local total = tonumber(batch[1])
  if total and total == tonumber(batch[3]) and is_sealed(key('batch:' .. id)) then return -1 end
  if total or not is_open(id) and redis.call('ZSCORE', key('running'), id) then
    redis.call('SET', key('cancelled:' .. id), 1, 'EX', ttl_s)
  end
  return total and math.ceil(total / tonumber(batch[2])) or 0
end

-- End an open job of this generation with `stored`. `cause` is 'cancelled', 'deadline', or 'batch',
-- which is valid only while the job's batch is cancelled. Return 1 if the job ended.
function operations.abort(id, generation, cause, stored, ttl_s, record_s, failed, blob_ttl_s)
  ensure_writable()
  local record = is_open(id) and read_head(id)
  if not record or generation_of(record) ~= generation then return 0 end
  if cause == 'batch' and is_cancelled(id) == 0 then return 0 end
  if cause ~= 'batch' and redis.call('ZSCORE', key('running'), id) then
    -- Its consumer finds the mark with the next heartbeat, and stops.
    redis.call('SET', key('cancelled:' .. id), 1, 'EX', ttl_s)
  end
  operations.finish(id, '', stored, ttl_s, record_s, failed, '0', blob_ttl_s)
  return 1
end

-- Revoke a task, as Celery's `revoke` requests. Return 1 if it is an open job, to be aborted;
-- otherwise store `revoked`, which is Celery's own result.
function operations.revoke(id, revoked, ttl_s)
  ensure_writable()
  local record = is_open(id) and read_head(id)
  if record then
    -- The same for a repeated call, whose reply was lost: it is about the same generation.
    local generation = generation_of(record)
    redis.call('SET', key('revoked:' .. id), generation, 'NX', 'EX', REVOCATION_S)
    return redis.call('GET', key('revoked:' .. id)) == generation and 1 or 0
  end
  if redis.call('ZSCORE', key('running'), id) then
    redis.call('SET', key('cancelled:' .. id), 1, 'EX', ttl_s)
  end
  local result = prefix .. 'celery-task-meta-' .. id
  if redis.call('SET', result, revoked, 'NX', 'EX', ttl_s) then
    redis.call('PUBLISH', result, revoked)
  end
  return 0
end

-- Return open jobs past their deadline, at most `limit`. A consumer ends the job that it runs itself,
-- with the results so far.
function operations.due(limit, lease_s)
  local deadlines, ids = key('deadlines'), {}
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', deadlines, '-inf', now(), 'LIMIT', 0, limit)) do
    local record = is_open(id) and read_head(id)
    local heartbeat_at = redis.call('ZSCORE', key('running'), id)
    ensure_writable()
    if not record or not deadline_s_of(record) then
      redis.call('ZREM', deadlines, id)
    elseif heartbeat_at and now() - tonumber(heartbeat_at) < tonumber(lease_s) then
      redis.call('ZADD', deadlines, now() + RUNNING_PAUSE_S, id)
    else
      table.insert(ids, id)
    end
  end
  return ids
end
