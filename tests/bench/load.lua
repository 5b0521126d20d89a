-- Load for wrk with one token after the other: load.lua FILE SKIP COUNT PATH.
-- Requests are made before the load starts; when COUNT is used up, the first token comes again.

local requests, at = {}, 0

function init(args)
  local skip, count, path = tonumber(args[2]), tonumber(args[3]), args[4]
  local line = 0
  for token in io.lines(args[1]) do
    line = line + 1
    if line > skip then
      wrk.headers["Authorization"] = "Bearer " .. token
      requests[#requests + 1] = wrk.format("GET", path)
      if #requests == count then break end
    end
  end
end

function request()
  at = at % #requests + 1
  return requests[at]
end
