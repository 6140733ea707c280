-- Atlas in the burst buffer hooks: runs atlas-stage, bounded, with a hook's name and a job's number and nothing else
-- (whatever a user can write would otherwise reach a shell as SlurmUser).
--
-- At the end of a burst_buffer.lua of your own:
--
--     local atlas_ok, atlas = pcall(require, "atlas_stage")
--     if atlas_ok then atlas.install() end
--
-- install() puts Atlas in front of the functions that are defined by then, and defines those that are missing. Your own
-- functions are called, with their arguments and their results, for jobs that have a directive of their own ("#BB_LUA"
-- not followed by "atlas"); a job that has only Atlas' directive does not reach them.
--
-- No hook of Atlas ever fails: an error in data_in would hold the job, one in pre_run requeue it. slurm_bb_job_process
-- and slurm_bb_paths run inside slurmctld, under its lock: Atlas does nothing there.
local M = {}

-- Seconds after which a hanging atlas-stage is killed; it ends by itself a little earlier.
local LIMITS = { data_in = 25, pre_run = 12, teardown = 8 }
local POOL = '{"id":"atlas","quantity":1000000000,"granularity":1}'
local HOOKS = { "job_process", "pools", "job_teardown", "setup", "data_in", "test_data_in", "real_size", "paths",
  "pre_run", "post_run", "data_out", "test_data_out", "get_status" }
-- Which argument of a hook is the path of the job's script.
local SCRIPT_ARGUMENT = { job_process = 1, job_teardown = 2, setup = 6, data_in = 2, test_data_in = 2, paths = 2,
  pre_run = 2, post_run = 2, data_out = 2, test_data_out = 2 }
local ATLAS_HOOK = { data_in = "data_in", pre_run = "pre_run", job_teardown = "teardown" }
local MAX_OUTPUT = 16 * 1024
local MAX_SCRIPT = 256 * 1024

local function log(text) slurm.log_info("%s", "atlas: " .. text) end

local function quote(word) return "'" .. word:gsub("'", "'\\''") .. "'" end

-- Runs atlas-stage for a hook of a job; logs what it says. Returns when it has ended, or was killed.
local function run(hook, job_id)
  local id = tostring(job_id):match("^%d+$")
  local limit = LIMITS[hook]
  if id == nil or limit == nil then return end
  local paths = require("atlas_paths")
  -- slurmctld's environment is what we have; of it atlas-stage needs nothing.
  local command = string.format("exec /usr/bin/env PATH=/usr/sbin:/usr/bin:/sbin:/bin SLURM_CONF=%s " ..
    "timeout -k 2 %d %s %s %s --config %s </dev/null 2>&1",
    quote(paths.slurm_conf), limit, quote(paths.libexec .. "/atlas-stage"), hook, id, quote(paths.config))
  local pipe, problem = io.popen(command, "r")
  if pipe == nil then return log(hook .. " of job " .. id .. ": " .. tostring(problem)) end
  local output = pipe:read(MAX_OUTPUT) or ""
  pipe:close()
  for line in output:gmatch("[^\n]+") do log(line) end
end

-- Which directives a job's script has: Atlas' own, others. What cannot be read may have either.
local function directives(path)
  local file = type(path) == "string" and io.open(path, "r")
  if not file then return true, true end
  local text = file:read(MAX_SCRIPT) or ""
  file:close()
  local ours, others = false, false
  for line in text:gmatch("[^\n]+") do
    if line:sub(1, 1) ~= "#" then break end
    if line:match("^#BB_LUA%s+atlas%s") then
      ours = true
    elseif line:match("^#BB_LUA") then
      others = true
    end
  end
  return ours, others
end

-- The site's pools with Atlas' among them.
local function pools(site)
  local all = '{"pools":[' .. POOL .. "]}"
  if site == nil then return slurm.SUCCESS, all end
  local ok, rc, text = pcall(site)
  if not ok or rc ~= slurm.SUCCESS or type(text) ~= "string" then
    log("the site's slurm_bb_pools failed or has no pools: " .. tostring(ok and text or rc))
    return slurm.SUCCESS, all
  end
  if text:find('"id"%s*:%s*"atlas"') then return slurm.SUCCESS, text end
  local head, list = text:match('^(.-"pools"%s*:%s*%[)(.*)$')
  if head == nil then return slurm.SUCCESS, all end
  return slurm.SUCCESS, head .. POOL .. (list:match("^%s*%]") and "" or ",") .. list
end

-- No script says whose job it is, so the site is asked, and its failure (which would hold a job) is not passed on.
local function real_size(site, ...)
  if site == nil then return slurm.SUCCESS end
  local ok, rc, size = pcall(site, ...)
  if ok and rc == slurm.SUCCESS then
    if size == nil then return rc end -- Slurm takes a second result that is nil for an error
    return rc, size
  end
  log("the site's slurm_bb_real_size failed: " .. tostring(ok and size or rc))
  return slurm.SUCCESS
end

local function hook_function(name, site)
  if name == "pools" then return function() return pools(site) end end
  if name == "real_size" then return function(...) return real_size(site, ...) end end
  if name == "get_status" then
    return site or function() return slurm.SUCCESS, "atlas: see 'atlasctl job list'\n" end
  end
  return function(...)
    local script = (select(SCRIPT_ARGUMENT[name], ...))
    local ours, others = true, true
    local ok, problem = pcall(function()
      ours, others = directives(script)
    end)
    if ok and ours and ATLAS_HOOK[name] then ok, problem = pcall(run, ATLAS_HOOK[name], (select(1, ...))) end
    if not ok then pcall(log, name .. ": " .. tostring(problem)) end
    if site ~= nil and others then return site(...) end
    return slurm.SUCCESS
  end
end

-- Defines all slurm_bb_* functions in `environment` (default: the global one).
function M.install(environment)
  environment = environment or _G
  for _, name in ipairs(HOOKS) do
    local global = "slurm_bb_" .. name
    environment[global] = hook_function(name, rawget(environment, global))
  end
end

return M
