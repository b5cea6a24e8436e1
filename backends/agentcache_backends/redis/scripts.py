"""The Lua that runs inside Redis, only where a condition and a write must be one step."""

from __future__ import annotations

from typing import Final

# h: the header of the value, or what there is of it; alive: a value of ours that has not expired at `now`.
_LOOK = """
local now = struct.unpack('>d', ARGV[1])
local h = redis.call('GETRANGE', KEYS[1], 0, 24)
local alive = #h == 25 and string.byte(h) == 161
local expiry = alive and struct.unpack('>d', string.sub(h, 2, 9)) or 0
alive = alive and (expiry == 0 or expiry > now)
"""

_SET = """
if ARGV[%(px)d] == '' then redis.call('SET', KEYS[%(key)d], ARGV[%(value)d])
elseif tonumber(ARGV[%(px)d]) <= 0 then redis.call('UNLINK', KEYS[%(key)d])
else redis.call('SET', KEYS[%(key)d], ARGV[%(value)d], 'PX', ARGV[%(px)d]) end
return 1
"""

# KEYS value; ARGV now, '' for "only where nothing is" or the version it must have, milliseconds to live or '', value
PUT_IF: Final = (
    _LOOK
    + """
if ARGV[2] == '' then if alive then return 0 end
elseif not alive or string.sub(h, 10, 17) ~= ARGV[2] then return 0 end
"""
    + _SET % {"px": 3, "key": 1, "value": 4}
)

# KEYS value; ARGV now, '' or the version it must have
DELETE: Final = (
    _LOOK
    + """
if ARGV[2] ~= '' and (#h < 25 or string.sub(h, 10, 17) ~= ARGV[2]) then return 0 end
redis.call('UNLINK', KEYS[1])
return alive and 1 or 0
"""
)

# KEYS value; ARGV now, expires_at (0: never), version
TOUCH: Final = (
    _LOOK
    + """
if not alive then return 0 end
local wanted = struct.unpack('>d', ARGV[2])
if expiry == 0 or wanted == 0 then expiry = 0 elseif wanted > expiry then expiry = wanted end
redis.call('SETRANGE', KEYS[1], 1, struct.pack('>d', expiry) .. ARGV[3] .. ARGV[1])
if expiry == 0 then redis.call('PERSIST', KEYS[1])
else redis.call('PEXPIRE', KEYS[1], math.ceil((expiry - now) * 1000)) end
return 1
"""
)

# KEYS value; ARGV now, offset, last index; answers the part, or nil
RANGE: Final = (
    _LOOK
    + """
if not alive then return false end
if tonumber(ARGV[3]) < tonumber(ARGV[2]) then return '' end
return redis.call('GETRANGE', KEYS[1], 25 + ARGV[2], 25 + ARGV[3])
"""
)

# KEYS lease, fence; ARGV token, milliseconds, milliseconds that a fence is remembered. The fence never runs back, also
# when the key that remembers it is gone: it is at least the server's clock in microseconds.
ACQUIRE: Final = """
if redis.call('EXISTS', KEYS[1]) == 1 then return false end
local time = redis.call('TIME')
local fence = time[1] * 1000000 + time[2]
local last = redis.call('GET', KEYS[2])
if last then
  last = tonumber(string.match(last, '^%d+')) + 1
  if last > fence then fence = last end
end
fence = string.format('%.0f', fence)
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('SET', KEYS[2], fence .. ':' .. ARGV[1], 'PX', ARGV[3])
return fence
"""

# KEYS lease, fence; ARGV token, milliseconds, milliseconds that a fence is remembered
RENEW: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return 1
"""

# KEYS lease; ARGV token
RELEASE: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
"""

# KEYS fence, value; ARGV fence and token, milliseconds to live or '', value
PUT_FENCED: Final = "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end" + _SET % {
    "px": 2,
    "key": 2,
    "value": 3,
}
