-- The outbox of webhook events. The job's metadata or the batch's record contains the URL.

local function webhook_hash(kind, id)
  return key((kind == 'job' and 'note:' or 'batch:') .. id)
end

-- Add the end of a job or batch to the outbox, if it was submitted with a webhook.
local function add_webhook_event(kind, id)
  local hash = webhook_hash(kind, id)
  if redis.call('HEXISTS', hash, 'webhook') == 0 then return end
  redis.call('HINCRBY', hash, 'webhook_event', 1)
  redis.call('HSET', hash, 'webhook_tries', 0)
  redis.call('ZADD', key('webhooks'), now(), kind .. ' ' .. id)
end

-- Lease due events to one sender for `lease_s`. Return for each: its kind, its id, the URL, the
-- event number, the number of earlier attempts, the metadata.
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
      'HMGET', hash, 'webhook', 'webhook_event', 'webhook_tries', 'note')
    if values[1] then
      redis.call('ZADD', key('webhooks'), now() + lease_s, member)
      redis.call('HINCRBY', hash, 'webhook_tries', 1)
      table.insert(due, { kind, id, values[1], values[2], values[3], values[4] or '' })
    else
      redis.call('ZREM', key('webhooks'), member)
    end
  end
  return due
end

-- Record the detail of an attempt, and retry after `pause_s`; below 0, remove the event. Do nothing
-- if the job or batch has ended again since.
function operations.settle(kind, id, event, pause_s, detail)
  ensure_writable()
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
  redis.call('HINCRBY', hash, 'webhook_tries', -1)
  redis.call('ZADD', key('webhooks'), 'XX', now() + pause_s, member)
end
