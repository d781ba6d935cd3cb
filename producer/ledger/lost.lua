-- Lost jobs: open jobs whose records Redis has evicted or deleted. They end as expired, so that
-- nobody waits for them.

local LOST_RESULT = '{"status":"FAILURE","result":{"exc_type":"JobExpired","exc_message":'
  .. '"Redis has lost the job: it was evicted or deleted","exc_module":"producer.errors"},'
  .. '"traceback":null,"children":[],"task_id":%s}'
-- Seconds that the result of a lost job is kept, as in contract.py.
local LOST_RESULT_TTL_S = 86400

-- End an open job without a record; return whether it was one.
local function end_lost(id)
  local result = prefix .. 'celery-task-meta-' .. id
  if not is_open(id) or redis.call('EXISTS', key('job:' .. id), result) > 0 then return false end
  local batch, number = chunk_of(id)
  local queue, items, ttl_s = 'interactive', 1, LOST_RESULT_TTL_S
  if batch then
    local fields = redis.call('HMGET', key('batch:' .. batch), 'chunk_items', 'total', 'keep_s')
    local size, total = tonumber(fields[1]), tonumber(fields[2])
    queue, items, ttl_s = 'bulk', math.max(0, math.min(size, total - number * size)), fields[3]
  end
  redis.call('ZREM', key('open'), id)
  redis.call('ZREM', key('running'), id)
  redis.call('HDEL', key('attempts'), id)
  redis.call('HDEL', key('suspects'), id)
  redis.call('ZREM', key('deadlines'), id)
  redis.call('ZREM', key(queue .. ':released'), id)
  decrement(queue, items)
  local stored = LOST_RESULT:format(cjson.encode(id))
  redis.call('SET', result, stored, 'EX', ttl_s)
  redis.call('PUBLISH', result, stored)
  if batch then
    close_chunk(batch, number, items, items)
  else
    add_webhook_event('job', id)
  end
  measure(id)
  dispatch(queue)
  return true
end

-- End those of these jobs that are lost. Return their ids.
function operations.end_lost(...)
  ensure_writable()
  local lost = {}
  for _, id in ipairs({ ... }) do
    if end_lost(id) then table.insert(lost, id) end
  end
  return lost
end
