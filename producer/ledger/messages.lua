-- Messages of Celery's lists that no consumer can process, and keys of a wrong type.

-- Store a message that is set aside, the newest first. The list is bounded.
function operations.set_aside(entry, limit, ttl_s)
  ensure_writable()
  local list = key('malformed')
  redis.call('LPUSH', list, entry)
  redis.call('LTRIM', list, 0, limit - 1)
  redis.call('EXPIRE', list, ttl_s)
end

-- Remove these entries. Return their number.
function operations.remove_malformed(...)
  local removed = 0
  for _, entry in ipairs({ ... }) do
    removed = removed + redis.call('LREM', key('malformed'), 1, entry)
  end
  return removed
end

-- Rename each key that exists with another type than it should have; arguments are pairs of a key's
-- name and its type. Return name, type and new name of each.
function operations.displace(ttl_s, ...)
  local types, displaced = { ... }, {}
  for index = 1, #types, 2 do
    local name, expected = prefix .. types[index], types[index + 1]
    local kind = redis.call('TYPE', name).ok
    if kind ~= 'none' and kind ~= expected then
      local target = key('displaced:' .. types[index])
      redis.call('RENAME', name, target)
      redis.call('EXPIRE', target, ttl_s)
      for _, word in ipairs({ name, kind, target }) do table.insert(displaced, word) end
    end
  end
  return displaced
end
