-- The outbox of webhook events. The job's metadata or the batch's record contains the URL.

local function webhook_hash(kind, id)
  return key((kind == 'job' and 'note:' or 'batch:') .. id)
end

-- The delivery log (delivery_log.py): attempts of each name of API keys and of each batch, and the
-- seconds after its last attempt that the log of a name expires.
local MAX_LOGGED, MAX_BATCH_LOGGED, LOG_TTL_S = 1000, 32, 7 * 86400

-- Add an attempt to the log of a name, and to that of a batch. Return its id.
local function log_delivery(name, kind, id, entry)
  local log = key('deliveries:' .. name)
  local delivery = redis.call('XADD', log, 'MAXLEN', MAX_LOGGED, '*', 'd', entry)
  redis.call('EXPIRE', log, LOG_TTL_S)
  local record_s = kind == 'batch' and redis.call('HGET', key('batch:' .. id), 'record_s')
  if record_s then
    local batch_log = key('batch:' .. id .. ':deliveries')
    redis.call('LPUSH', batch_log, delivery .. ' ' .. entry)
    redis.call('LTRIM', batch_log, 0, MAX_BATCH_LOGGED - 1)
    -- An older worker, which does not know the log, may close the batch.
    redis.call('EXPIRE', batch_log, record_s)
  end
  return delivery
end

-- Log an attempt that belongs to no event. Return its id.
function operations.log_delivery(name, entry)
  ensure_writable()
  return log_delivery(name, '', '', entry)
end

-- Add the end of a job or batch to the outbox, if it was submitted with a webhook.
local function add_webhook_event(kind, id)
  local hash = webhook_hash(kind, id)
  if redis.call('HEXISTS', hash, 'webhook') == 0 then return end
  redis.call('HINCRBY', hash, 'webhook_event', 1)
  redis.call('HSET', hash, 'webhook_tries', 0)
  redis.call('HDEL', hash, 'webhook_resent')
  redis.call('ZADD', key('webhooks'), now(), kind .. ' ' .. id)
end

-- Make the last event of a job or batch due now: a pending one earlier, any other for all attempts.
-- Return nil if there is none.
function operations.resend(kind, id)
  ensure_writable()
  local hash, member = webhook_hash(kind, id), kind .. ' ' .. id
  if redis.call('HEXISTS', hash, 'webhook_event') == 0 then return end
  redis.call('HSET', hash, 'webhook_resent', 1)
  if not redis.call('ZSCORE', key('webhooks'), member) then
    redis.call('HSET', hash, 'webhook_tries', 0)
  end
  redis.call('ZADD', key('webhooks'), now(), member)
  return 1
end

-- Lease due events to one sender for `lease_s`. Return for each: its kind, its id, the URL, the
-- event number, the number of earlier attempts, the metadata, '1' if it was asked for again.
function operations.claim_due(limit, lease_s)
  ensure_writable()
  -- Gateways call this every second, also while no worker sweeps.
  measure_due(IDLE_DUE_LIMIT)
  local due = {}
  for _, member in ipairs(redis.call(
      'ZRANGEBYSCORE', key('webhooks'), '-inf', now(), 'LIMIT', 0, limit)) do
    local kind, id = member:match('^(%S+) (.*)$')
    local hash = webhook_hash(kind, id)
    local values = redis.call(
      'HMGET', hash, 'webhook', 'webhook_event', 'webhook_tries', 'note', 'webhook_resent')
    if values[1] then
      redis.call('ZADD', key('webhooks'), now() + lease_s, member)
      redis.call('HINCRBY', hash, 'webhook_tries', 1)
      table.insert(due, {
        kind, id, values[1], values[2], values[3], values[4] or '', values[5] or '',
      })
    else
      redis.call('ZREM', key('webhooks'), member)
    end
  end
  return due
end

-- Record the detail of an attempt, and retry after `pause_s`; below 0, remove the event. If the job
-- or batch has ended again since, only log the attempt. `name` is '' for an event without API key.
function operations.settle(kind, id, event, pause_s, detail, name, entry)
  ensure_writable()
  if name ~= '' then log_delivery(name, kind, id, entry) end
  local hash, member = webhook_hash(kind, id), kind .. ' ' .. id
  if redis.call('HGET', hash, 'webhook_event') ~= event then return end
  redis.call('HSET', hash, 'webhook_told', detail)
  if tonumber(pause_s) < 0 then
    redis.call('ZREM', key('webhooks'), member)
  else
    redis.call('ZADD', key('webhooks'), 'XX', now() + pause_s, member)
  end
end

-- Return an event to the outbox for `pause_s` without counting an attempt.
function operations.defer(kind, id, event, pause_s)
  ensure_writable()
  local hash, member = webhook_hash(kind, id), kind .. ' ' .. id
  if redis.call('HGET', hash, 'webhook_event') ~= event then return end
  -- It is 0 already if the event was made due for all attempts meanwhile.
  if redis.call('HINCRBY', hash, 'webhook_tries', -1) < 0 then
    redis.call('HSET', hash, 'webhook_tries', 0)
  end
  redis.call('ZADD', key('webhooks'), 'XX', now() + pause_s, member)
end
