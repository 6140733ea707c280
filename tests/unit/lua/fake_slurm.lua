-- What slurmctld puts into a script's state, as far as Atlas' modules use it, and a few words for tests.
local T = { logs = {}, told = {}, failed = 0, passed = 0 }

slurm = {
  SUCCESS = 0,
  ERROR = -1,
  log_info = function(...) table.insert(T.logs, string.format(...)) end,
  log_error = function(...) table.insert(T.logs, "error: " .. string.format(...)) end,
  log_user = function(...) table.insert(T.told, string.format(...)) end,
}

T.dir = os.getenv("TEST_DIR") -- a directory of the test's own
T.source = os.getenv("ATLAS_LUA") -- etc/slurm

function T.write(name, text)
  local file = assert(io.open(T.dir .. "/" .. name, "w"))
  file:write(text)
  file:close()
  return T.dir .. "/" .. name
end

function T.read(name)
  local file = io.open(T.dir .. "/" .. name)
  if not file then return "" end
  local text = file:read("*a")
  file:close()
  return text
end

function T.remove(name) os.remove(T.dir .. "/" .. name) end

-- Loads Atlas' modules anew, as a fresh slurmctld would.
function T.fresh(module)
  for _, name in ipairs({ "atlas_paths", "atlas_submit", "atlas_stage" }) do package.loaded[name] = nil end
  T.logs, T.told = {}, {}
  return require(module)
end

function T.equal(got, want, what)
  if got ~= want then
    error(string.format("%s: got %s, want %s", what or "value", tostring(got), tostring(want)), 2)
  end
end

function T.contains(text, part)
  if not tostring(text):find(part, 1, true) then error(string.format("%q is not in %q", part, tostring(text)), 2) end
end

function T.test(name, body)
  local ok, problem = xpcall(body, debug.traceback)
  if ok then T.passed = T.passed + 1 else T.failed = T.failed + 1 end
  print((ok and "ok      " or "FAILED  ") .. name)
  if not ok then print(problem) end
end

function T.finish()
  print(string.format("%d passed, %d failed", T.passed, T.failed))
  os.exit(T.failed == 0 and T.passed > 0 and 0 or 1)
end

return T
