-- Fair queueing: jobs move from the submitters' queues to Celery's list.

-- Maximum jobs in Celery's list, and its increase for each running job. A low limit gives a new
-- submitter its share sooner. Consumers rarely wait, since each claim dispatches the next job. With
-- more consumers, more messages are in transit at the same time.
local WINDOW = 16
local WINDOW_PER_RUNNING_JOB = 0.25
-- Maximum deleted jobs that one call skips: a script blocks all other clients.
local SKIP_LIMIT = 2000

-- Move jobs to Celery's list. The submitter with the fewest items so far is next.
local function dispatch(queue)
  local released, usage = key(queue .. ':released'), key(queue .. ':turns')
  local window = WINDOW + WINDOW_PER_RUNNING_JOB * redis.call('ZCARD', key('running'))
  local skipped = 0
  while redis.call('ZCARD', released) < window and skipped < SKIP_LIMIT do
    local submitter = redis.call('ZRANGE', usage, 0, 0)[1]
    if not submitter then return end
    local waiting = key(queue .. ':lane:' .. submitter)
    local id = redis.call('RPOP', waiting)
    -- If a waiting job is deleted and enqueued again, its id is in the list twice.
    local is_waiting = id and is_open(id) and not redis.call('ZSCORE', released, id)
      and not redis.call('ZSCORE', key('running'), id)
    local record = is_waiting and read_head(id)
    if record then
      redis.call('ZADD', released, now(), id)
      redis.call('LPUSH', prefix .. queue, record.message)
      redis.call('ZINCRBY', usage, record.items, submitter)
    elseif is_waiting then
      -- The next sweep ends it as a lost job.
      redis.call('ZADD', released, 0, id)
    else
      skipped = skipped + 1
    end
    if redis.call('EXISTS', waiting) == 0 then redis.call('ZREM', usage, submitter) end
  end
end

local function enqueue_for_submitter(id, record)
  local usage = key(record.queue .. ':turns')
  redis.call('LPUSH', key(record.queue .. ':lane:' .. record.submitter), id)
  if not redis.call('ZSCORE', usage, record.submitter) then
    -- A new submitter starts with the lowest usage, so it is neither favoured nor disadvantaged.
    local first = redis.call('ZRANGE', usage, 0, 0, 'WITHSCORES')
    redis.call('ZADD', usage, first[2] or 0, record.submitter)
  end
  dispatch(record.queue)
end
