-- Uploaded images: they are retained while an open job names them, and their bytes count once.

-- Seconds that an upload is kept before a job names it, as in contract.py.
local UPLOAD_TTL_S = 3600
-- Seconds for which no deletion erases an upload, unless its job is enqueued before.
local AWAITED_S = 60

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

-- Add an account's open job to an image of it.
local function retain_for_account(account, sha)
  local bytes, users, keep_until = image_entry(account, sha)
  -- Only a failed job keeps an image longer than an upload waits for its job.
  if not keep_until or keep_until <= now() + UPLOAD_TTL_S then keep_until = 0 end
  bytes = bytes or ENTRY_BYTES + redis.call('STRLEN', key('blob:' .. sha))
  set_image_entry(account, sha, bytes, (users or 0) + 1, keep_until)
end

local function release_for_account(account, sha, ttl_s)
  local bytes, users, keep_until = image_entry(account, sha)
  if not bytes then return end
  keep_until = math.max(keep_until, math.floor(now()) + tonumber(ttl_s))
  set_image_entry(account, sha, bytes, math.max(0, users - 1), keep_until)
end

-- Retain the images of a job that becomes open.
local function retain_blobs(id, blobs)
  local account = account_of(id)
  for sha in blobs:gmatch('%S+') do
    if account then retain_for_account(account, sha) end
    local count, bytes, keep_until = blob_users(sha)
    if bytes == 0 then
      bytes = redis.call('STRLEN', key('blob:' .. sha))
      if bytes > 0 then redis.call('HINCRBY', key('depth'), 'blob_bytes', bytes) end
    end
    local ttl_s = redis.call('TTL', key('blob:' .. sha))
    -- A longer time to live than an upload's: a failed job retains the blob for a retry.
    if ttl_s > UPLOAD_TTL_S then keep_until = math.max(keep_until, math.floor(now()) + ttl_s) end
    redis.call('PERSIST', key('blob:' .. sha))
    redis.call('DEL', key('awaited:' .. sha))
    set_blob_users(sha, count + 1, bytes, keep_until)
  end
end

local function release_blobs(id, blobs, ttl_s)
  local account = account_of(id)
  for sha in blobs:gmatch('%S+') do
    if account then release_for_account(account, sha, ttl_s) end
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

-- Maximum look-ups of accounts for the images of a job: a script blocks all other clients.
local OWNER_LOOKUPS = 16384

-- Return whether another account than that of an erased job has uploaded an image.
local function has_other_owner(sha, account, accounts)
  for _, other in ipairs(accounts) do
    if other ~= '*' and other ~= account and usage_entry(other, 'blob ' .. sha) then return true end
  end
  return false
end

-- Erase an image of a closed job for its account, and for all if no other has it. One that an open
-- job names, or a client is about to name, remains.
local function erase_blob(sha, account, accounts)
  if redis.call('EXISTS', key('awaited:' .. sha)) == 1 then return end
  local is_named = redis.call('HEXISTS', key('blob-users'), sha) == 1
  if account then
    local _, users = image_entry(account, sha)
    if users == 0 or not is_named then set_usage(account, 'blob ' .. sha, nil) end
  end
  if not is_named and not has_other_owner(sha, account, accounts) then
    redis.call('DEL', key('blob:' .. sha))
  end
end

-- Erase the images of a closed job; return the number of look-ups. With too many, they expire.
local function erase_blobs(id, blobs)
  local account, accounts = account_of(id), redis.call('HKEYS', key('usage'))
  local _, images = blobs:gsub('%S+', '')
  if images * #accounts > OWNER_LOOKUPS then return images end
  for sha in blobs:gmatch('%S+') do erase_blob(sha, account, accounts) end
  return images * (1 + #accounts)
end

-- Return whether a job names an image that its account has not uploaded.
local function names_unknown_image(account, blobs)
  for sha in blobs:gmatch('%S+') do
    if not usage_entry(account, 'blob ' .. sha) then return true end
  end
  return false
end

-- Extend the time to live of an upload; return 1 if Redis stores it, otherwise 0.
local function touch_blob(sha, ttl_s)
  local remaining_s = redis.call('TTL', key('blob:' .. sha))
  -- -1: an open job names the blob, so it has no time to live.
  if remaining_s >= 0 and remaining_s < tonumber(ttl_s) then
    redis.call('EXPIRE', key('blob:' .. sha), ttl_s)
  end
  redis.call('SET', key('awaited:' .. sha), 1, 'EX', AWAITED_S)
  return remaining_s == -2 and 0 or 1
end

-- Extend the time to live of uploads until their jobs are enqueued. Return for each blob 1 if it
-- exists, and the account, unless it is '', uploaded it; otherwise 0.
function operations.touch(account, ttl_s, ...)
  ensure_writable()
  local answers = {}
  for _, sha in ipairs({ ... }) do
    local bytes, users, keep_until = nil, 0, 0
    if account ~= '' then bytes, users, keep_until = image_entry(account, sha) end
    if account ~= '' and not bytes then
      table.insert(answers, 0)
    else
      local exists = touch_blob(sha, ttl_s)
      table.insert(answers, exists)
      if bytes and exists == 1 then
        keep_until = math.max(keep_until, math.floor(now()) + tonumber(ttl_s))
        set_image_entry(account, sha, bytes, users, keep_until)
      end
    end
  end
  return answers
end

-- Announce images that an account is about to upload, given their SHA-256 and bytes: from now on,
-- they count. Return for each 1 if Redis stores it already, otherwise 0; or the status of a quota
-- that they exceed.
function operations.announce(account, ttl_s, max_account_bytes, max_total_bytes, ...)
  local images, new_bytes, answers = { ... }, 0, {}
  for index = 1, #images, 2 do
    if not usage_entry(account, 'blob ' .. images[index]) then
      new_bytes = new_bytes + ENTRY_BYTES + tonumber(images[index + 1])
    end
  end
  if new_bytes > 0 then
    local full = lasting_quota_error(account, new_bytes, max_account_bytes, max_total_bytes)
    if full then return { full } end
  end
  for index = 1, #images, 2 do
    local sha, bytes = images[index], ENTRY_BYTES + tonumber(images[index + 1])
    local _, users, keep_until = image_entry(account, sha)
    local exists = touch_blob(sha, ttl_s)
    keep_until = math.max(keep_until or 0, math.floor(now()) + tonumber(ttl_s))
    set_image_entry(account, sha, bytes, users or 0, keep_until, exists == 0 and ARRIVAL_S or nil)
    table.insert(answers, exists)
  end
  measure_due(DUE_LIMIT)
  return answers
end
