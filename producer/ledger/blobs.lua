-- Uploaded images: they are retained while an open job names them, and their bytes count once.

-- Seconds that an upload is kept before a job names it, as in contract.py.
local UPLOAD_TTL_S = 3600

-- Return the number of open jobs that name a blob, its bytes, and the Unix time until which ended
-- jobs retain it.
local function blob_users(sha)
  local users = redis.call('HGET', key('blob-users'), sha)
  if not users then return 0, 0, 0 end
  local count, bytes, keep_until = users:match('^(%d+) (%d+) ?(%d*)$')
  return tonumber(count), tonumber(bytes), tonumber(keep_until) or 0
end

local function set_blob_users(sha, count, bytes, keep_until)
  redis.call('HSET', key('blob-users'), sha, string.format('%d %d %d', count, bytes, keep_until))
end

-- Return the bytes of the blobs that no open job names yet.
local function new_blob_bytes(blobs)
  local bytes = 0
  for sha in blobs:gmatch('%S+') do
    if blob_users(sha) == 0 then bytes = bytes + redis.call('STRLEN', key('blob:' .. sha)) end
  end
  return bytes
end

local function retain_blobs(blobs)
  for sha in blobs:gmatch('%S+') do
    local count, bytes, keep_until = blob_users(sha)
    if bytes == 0 then
      bytes = redis.call('STRLEN', key('blob:' .. sha))
      if bytes > 0 then redis.call('HINCRBY', key('depth'), 'blob_bytes', bytes) end
    end
    local ttl_s = redis.call('TTL', key('blob:' .. sha))
    -- A longer time to live than an upload's: a failed job retains the blob for a retry.
    if ttl_s > UPLOAD_TTL_S then keep_until = math.max(keep_until, math.floor(now()) + ttl_s) end
    redis.call('PERSIST', key('blob:' .. sha))
    set_blob_users(sha, count + 1, bytes, keep_until)
  end
end

local function release_blobs(blobs, ttl_s)
  for sha in blobs:gmatch('%S+') do
    local count, bytes, keep_until = blob_users(sha)
    keep_until = math.max(keep_until, math.floor(now()) + tonumber(ttl_s))
    if count > 1 then
      set_blob_users(sha, count - 1, bytes, keep_until)
    elseif count == 1 then
      redis.call('HDEL', key('blob-users'), sha)
      redis.call('EXPIRE', key('blob:' .. sha), keep_until - math.floor(now()))
      decrement('blob_bytes', bytes)
    end
  end
end

-- Extend the time to live of uploads until their jobs are enqueued. Return for each blob 1 if it
-- exists, otherwise 0.
function operations.touch(ttl_s, ...)
  local exists = {}
  for _, sha in ipairs({ ... }) do
    local remaining_s = redis.call('TTL', key('blob:' .. sha))
    -- -1: an open job names the blob, so it has no time to live.
    if remaining_s >= 0 and remaining_s < tonumber(ttl_s) then
      redis.call('EXPIRE', key('blob:' .. sha), ttl_s)
    end
    table.insert(exists, remaining_s == -2 and 0 or 1)
  end
  return exists
end
