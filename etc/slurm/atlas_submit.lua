-- Atlas at submit: turns the request that the SPANK plugin packed (ATLAS_REQ) into what slurmctld keeps with the job.
--
-- From a job_submit.lua of your own, two lines; the call as the last thing before it returns slurm.SUCCESS:
--
--     local atlas_ok, atlas = pcall(require, "atlas_submit")                      -- at the top
--     if atlas_ok then atlas.submit(job_desc, part_list, submit_uid) end          -- in slurm_job_submit
--
-- Without the pcall a missing module would keep slurmctld from starting. submit() never raises an error and never
-- rejects a job: whatever is wrong is logged, and the job goes on without Atlas. It runs under slurmctld's lock, so it
-- asks nobody and reads a few small local files at most.
--
-- What it writes:
--   * a job: a burst buffer directive, "#BB_LUA atlas pool=atlas capacity=1 req=...", in front of whatever directive
--     the user or the site gave. The hooks of burst_buffer.lua then act on the job (see atlas_stage.lua);
--   * a job array (each task would be staged on its own), a heterogeneous job (its components would be staged one after
--     the other), --immediate, a request too long for Slurm's field, and every job where burst_buffer.lua cannot be
--     used: no directive. The request goes into admin_comment, "atlas:...", where the controller finds it, and what
--     wants to wait gets a begin time.
--
-- Where site.observe is true in atlas.toml, every job is one of the second kind and none waits: the controller sees what
-- is asked for, and nothing else becomes of it.
--
-- A site that uses another burst buffer plug-in needs to do nothing if slurm.conf says so; else it sets
-- site.burst_buffer = false in atlas.toml, and no directive is ever written.
local M = {}

local MAX_REQUEST = 8 * 1024 -- common/request.h: kMaxEncodedRequest
local MAX_BURST_BUFFER = 8 * 1024 -- what slurmctld accepts in that field; admin_comment has no limit
local MAX_FILE = 4 * 1024 * 1024
local DEFAULT_MAX_WAIT = 30 * 60 -- common/config.h: warm.max_wait
local DEFAULT_GRACE = 60 -- common/config.h: warm.controller_grace
local NOT_HET = 4294967294 -- NO_VAL

local function log(text) slurm.log_info("%s", "atlas: " .. text) end
local function tell(text) slurm.log_user("%s", "atlas: " .. text) end

local function read(path)
  local file = io.open(path, "r")
  if file == nil then return nil end
  local text = file:read(MAX_FILE)
  file:close()
  return text
end

-- The request of a job: text, or nil and what is wrong with it.
local function request_of(job_desc)
  local environment = job_desc.spank_job_env
  if type(environment) ~= "table" then return nil end
  for _, entry in pairs(environment) do -- its indices begin at 0
    local value = type(entry) == "string" and entry:match("^ATLAS_REQ=(.*)$")
    if value then
      if #value > MAX_REQUEST then return nil, "the dataset request is longer than 8 KiB" end
      if not value:match("^v%d+,[%w._/,=@%%-]+$") then return nil, "the dataset request is malformed" end
      return value
    end
  end
  return nil
end

-- "30m" -> 1800, "1:30:00" -> 5400; nil for what is not a duration.
local function seconds_of(text)
  local head, last = text:match("^([%d:]+):(%d+)$")
  if head then
    local hours, minutes = head:match("^(%d+):(%d+)$")
    return (hours or 0) * 3600 + (minutes or tonumber(head) or 0) * 60 + last
  end
  local number, unit = text:match("^(%d+)(%a*)$")
  local scale = ({ ms = 0.001, s = 1, m = 60, h = 3600, d = 86400, [""] = 60 })[unit or "?"]
  return number and scale and math.ceil(tonumber(number) * scale)
end

-- What a pattern finds behind "KEY =" in a table of atlas.toml, or nil.
local function config_value(config, wanted, key, pattern)
  local table_name = ""
  for line in (read(config) or ""):gmatch("[^\r\n]+") do
    table_name = line:match("^%s*%[([%w_]+)%]") or (line:match("^%s*%[%[") and "") or table_name
    local value = table_name == wanted and line:match("^%s*" .. key .. "%s*=%s*" .. pattern)
    if value then return value end
  end
  return nil
end

-- A duration of [warm] in atlas.toml, in seconds.
local function warm_key(config, key, default)
  local value = config_value(config, "warm", key, '["\']([^"\']*)["\']')
  return value and seconds_of(value) or default
end

-- The most seconds that a job with this request waits for its data, as launcher/atlas_stage.cc: longest_wait().
local function longest_wait(request, config)
  local most
  if request:find(",w=wait", 1, true) then
    most = math.huge
  else
    most = tonumber(request:match(",l=[%d.]+@(%d+)") or 0)
  end
  if most == 0 then return 0 end
  return math.min(most, warm_key(config, "max_wait", DEFAULT_MAX_WAIT))
end

-- How long a job without hooks is held back at first: the controller, once it has seen it, lets it wait for longer.
local function first_wait(request, config)
  return math.min(longest_wait(request, config), warm_key(config, "controller_grace", DEFAULT_GRACE))
end

-- Why a directive must not be written now, or nil. Slurm refuses a job whose burst buffer script does not load or whose
-- pool nobody defined, and Atlas must not cost anyone a job.
local function directive_trouble(paths)
  if config_value(paths.config, "site", "burst_buffer", "(%a+)") == "false" then
    return "site.burst_buffer is false in " .. paths.config
  end
  local conf = read(paths.slurm_conf)
  if conf == nil then return paths.slurm_conf .. " cannot be read" end
  conf = ("\n" .. conf):lower()
  if not conf:find("\n%s*burstbuffertype%s*=%s*burst_buffer/lua") and not conf:find("\n%s*include%s") then
    return "slurm.conf has no BurstBufferType=burst_buffer/lua"
  end
  local script = paths.slurm_conf:gsub("[^/]*$", "") .. "burst_buffer.lua"
  local text = read(script)
  if text == nil then return script .. " cannot be read" end
  if not text:gsub("%-%-[^\n]*", ""):find("atlas_stage", 1, true) then return script .. " does not load atlas_stage" end
  local ok, problem = loadstring(text, "@" .. script)
  if not ok then return problem end
  for path in package.path:gmatch("[^;]+") do
    local module = read((path:gsub("%?", "atlas_stage")))
    if module then
      ok, problem = loadstring(module, "@atlas_stage.lua")
      return not ok and problem or nil
    end
  end
  return "atlas_stage.lua is not in package.path"
end

local function append(text, more)
  if text == nil or text == "" then return more end
  return text .. " " .. more
end

-- No hooks: the controller finds the request in admin_comment. `wait` seconds are put before the job's start.
local function by_record(job_desc, request, wait)
  local mark = "atlas:" .. request
  if wait > 0 then
    local now = os.time()
    local own = tonumber(job_desc.begin_time) or 0
    if own <= 0 or own >= NOT_HET then own = now end
    job_desc.begin_time = math.max(own, now) + wait
    mark = mark .. " atlas-begin:" .. string.format("%d", own)
  end
  job_desc.admin_comment = append(job_desc.admin_comment, mark)
end

-- Whether it fitted.
local function by_directive(job_desc, request)
  local directive = "#BB_LUA atlas pool=atlas capacity=1 req=" .. request
  local given = job_desc.burst_buffer
  if given ~= nil and given ~= "" then directive = directive .. "\n" .. given end
  if #directive > MAX_BURST_BUFFER then return false end
  job_desc.burst_buffer = directive
  return true
end

local function submit(job_desc)
  local request, problem = request_of(job_desc)
  if problem then
    log(problem .. "; the job of uid " .. tostring(job_desc.user_id) .. " goes on without Atlas")
    tell(problem .. "; the job runs without Atlas")
  end
  if request == nil then return end
  if job_desc.user_id == 0 then -- Slurm has no burst buffers for root
    tell("root's jobs are not staged; the job runs without Atlas")
    return
  end
  local paths = require("atlas_paths")
  if config_value(paths.config, "site", "observe", "(%a+)") == "true" then return by_record(job_desc, request, 0) end
  local het = tonumber(job_desc.het_job_offset)
  if het ~= nil and het ~= NOT_HET then
    if longest_wait(request, paths.config) > 0 then
      tell("a heterogeneous job does not wait for its data; it starts when Slurm can start it")
    end
    return by_record(job_desc, request, 0)
  end
  if tonumber(job_desc.immediate) == 1 then return by_record(job_desc, request, 0) end
  if job_desc.array_inx ~= nil and job_desc.array_inx ~= "" then
    return by_record(job_desc, request, first_wait(request, paths.config))
  end
  local trouble = directive_trouble(paths)
  if trouble then
    log(trouble .. "; staging by the queue, without hooks")
  elseif by_directive(job_desc, request) then
    return
  end
  by_record(job_desc, request, first_wait(request, paths.config))
end

-- Call it from slurm_job_submit. Returns slurm.SUCCESS, always.
function M.submit(job_desc, _part_list, _submit_uid)
  local ok, problem = pcall(submit, job_desc)
  if not ok then pcall(log, "submit: " .. tostring(problem)) end
  return slurm.SUCCESS
end

return M
