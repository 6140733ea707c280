local T = require("fake_slurm")
local OURS = "#!/bin/sh\n#BB_LUA atlas pool=atlas capacity=1 req=v1,d=/a\necho\n"
local THEIRS = "#!/bin/sh\n#BB_LUA capacity=5\necho\n"
local BOTH = "#!/bin/sh\n#BB_LUA atlas pool=atlas capacity=1 req=v1,d=/a\n#BB_LUA capacity=5\necho\n"
local NAMES = { "job_process", "pools", "job_teardown", "setup", "data_in", "test_data_in", "real_size", "paths",
  "pre_run", "post_run", "data_out", "test_data_out", "get_status" }

-- Puts a program in the place of atlas-stage.
local function helper(body)
  T.remove("called")
  os.execute("mkdir -p '" .. T.dir .. "/libexec'")
  T.write("libexec/atlas-stage", "#!/bin/sh\n" .. body)
  os.execute("chmod +x '" .. T.dir .. "/libexec/atlas-stage'")
end

local function installed(environment)
  environment = environment or {}
  T.fresh("atlas_stage").install(environment)
  return environment
end

local function script(text) return T.write("script", text) end

local RECORD = 'echo "$@" >>"' .. T.dir .. '/called"; echo "conf $SLURM_CONF" >>"' .. T.dir .. '/called"\n'

T.test("data_in, pre_run and teardown run atlas-stage with the hook's name and the number", function()
  helper(RECORD)
  local hooks = installed()
  T.equal(hooks.slurm_bb_data_in("42", script(OURS)), slurm.SUCCESS)
  T.equal(hooks.slurm_bb_pre_run(42, script(OURS)), slurm.SUCCESS)
  T.equal(hooks.slurm_bb_job_teardown("42", script(OURS), "true"), slurm.SUCCESS)
  local config, conf = T.dir .. "/atlas.toml", "conf " .. T.dir .. "/slurm.conf\n"
  T.equal(T.read("called"), "data_in 42 --config " .. config .. "\n" .. conf .. "pre_run 42 --config " .. config .. "\n" ..
    conf .. "teardown 42 --config " .. config .. "\n" .. conf)
end)

T.test("no other hook starts a process", function()
  helper(RECORD)
  local hooks = installed()
  for _, name in ipairs({ "job_process", "setup", "test_data_in", "paths", "post_run", "data_out", "test_data_out",
    "get_status", "real_size", "pools" }) do
    T.equal((hooks["slurm_bb_" .. name]("42", script(OURS), 1, 2, 3, script(OURS))), slurm.SUCCESS, name)
  end
  T.equal(T.read("called"), "")
end)

T.test("what atlas-stage says is logged, line by line", function()
  helper("echo one; echo two >&2; exit 3")
  T.equal(installed().slurm_bb_data_in("42", script(OURS)), slurm.SUCCESS)
  T.equal(table.concat(T.logs, "|"), "atlas: one|atlas: two")
end)

T.test("atlas-stage missing, failing or crashing is logged and no failure", function()
  helper("kill -9 $$")
  T.equal(installed().slurm_bb_data_in("42", script(OURS)), slurm.SUCCESS)
  T.remove("libexec/atlas-stage")
  T.equal(installed().slurm_bb_data_in("42", script(OURS)), slurm.SUCCESS)
  T.contains(T.logs[1], "atlas-stage")
end)

T.test("a flood of output does not fill slurmctld's log", function()
  helper("yes 'a line' | head -c 10000000")
  T.equal(installed().slurm_bb_data_in("42", script(OURS)), slurm.SUCCESS)
  assert(#T.logs < 5000, #T.logs)
end)

T.test("what is not a number never reaches a shell", function()
  helper(RECORD)
  local hooks = installed()
  for _, id in ipairs({ "42; touch x", "$(id)", "", "-1", "4 2" }) do
    T.equal(hooks.slurm_bb_data_in(id, script(OURS)), slurm.SUCCESS)
  end
  T.equal(hooks.slurm_bb_data_in(nil, nil), slurm.SUCCESS)
  T.equal(hooks.slurm_bb_data_in(), slurm.SUCCESS)
  T.equal(T.read("called"), "")
end)

T.test("a job that has only a directive of its own costs no process", function()
  helper(RECORD)
  T.equal(installed().slurm_bb_data_in("42", script(THEIRS)), slurm.SUCCESS)
  T.equal(T.read("called"), "")
end)

T.test("only the leading comment lines of a script count", function()
  helper(RECORD)
  installed().slurm_bb_data_in("42", script("#!/bin/sh\necho\n#BB_LUA atlas pool=atlas capacity=1 req=v1,d=/a\n"))
  T.equal(T.read("called"), "")
end)

T.test("a script that cannot be read is taken to be ours", function()
  helper(RECORD)
  T.equal(installed().slurm_bb_data_in("42", T.dir .. "/no such file"), slurm.SUCCESS)
  T.contains(T.read("called"), "data_in 42")
end)

T.test("the pool is there, with and without a site's own", function()
  local OWN = '{"id":"atlas","quantity":1000000000,"granularity":1}'
  local function pools(site)
    local environment = { slurm_bb_pools = site }
    local rc, text = installed(environment).slurm_bb_pools()
    T.equal(rc, slurm.SUCCESS)
    return text
  end
  T.equal(pools(nil), '{"pools":[' .. OWN .. "]}")
  T.equal(pools(function() return slurm.SUCCESS, '{"pools":[{"id":"p","quantity":5,"granularity":1}]}' end),
    '{"pools":[' .. OWN .. ',{"id":"p","quantity":5,"granularity":1}]}')
  T.equal(pools(function() return slurm.SUCCESS, '{ "pools" : [ ] }' end), '{ "pools" : [' .. OWN .. " ] }")
  T.equal(pools(function() return slurm.ERROR, "no" end), '{"pools":[' .. OWN .. "]}")
  T.equal(pools(function() error("broken") end), '{"pools":[' .. OWN .. "]}")
  T.equal(pools(function() return slurm.SUCCESS end), '{"pools":[' .. OWN .. "]}")
  local twice = '{"pools":[' .. OWN .. "]}"
  T.equal(pools(function() return slurm.SUCCESS, twice end), twice)
end)

T.test("a site's functions see their jobs, with their arguments, and their results stand", function()
  helper(RECORD)
  for _, text in ipairs({ THEIRS, BOTH }) do
    local seen
    local hooks = installed({ slurm_bb_data_in = function(...)
      seen = { ... }
      return slurm.ERROR, "no space"
    end })
    local rc, message = hooks.slurm_bb_data_in("42", script(text), "future argument")
    T.equal(rc, slurm.ERROR)
    T.equal(message, "no space")
    T.equal(table.concat(seen, " "), "42 " .. T.dir .. "/script future argument")
  end
  T.equal(select(2, T.read("called"):gsub("data_in 42", "")), 1, "calls of atlas-stage")
end)

T.test("a site's functions do not see jobs that have only Atlas' directive", function()
  helper(RECORD)
  local environment = {}
  for _, name in ipairs({ "job_process", "job_teardown", "setup", "data_in", "paths", "pre_run", "post_run", "data_out" }) do
    environment["slurm_bb_" .. name] = function() error(name .. " was called") end
  end
  local hooks = installed(environment)
  local path = script(OURS)
  hooks.slurm_bb_job_process(path)
  hooks.slurm_bb_setup("42", "1001", "1001", "atlas", "1", path)
  for _, name in ipairs({ "data_in", "paths", "pre_run", "post_run", "data_out", "job_teardown" }) do
    T.equal(hooks["slurm_bb_" .. name]("42", path), slurm.SUCCESS, name)
  end
end)

T.test("real_size has one result unless the site has a size, and no failure", function()
  local function size(site) return select("#", installed({ slurm_bb_real_size = site }).slurm_bb_real_size("42")) end
  T.equal(size(nil), 1)
  T.equal(size(function() return slurm.SUCCESS end), 1)
  T.equal(size(function() return slurm.SUCCESS, "5" end), 2)
  T.equal(size(function() return slurm.ERROR, "x" end), 1)
  T.equal(size(function() error("x") end), 1)
end)

T.test("the example script defines every hook, whatever becomes of the module", function()
  local function load()
    for _, name in ipairs(NAMES) do _G["slurm_bb_" .. name] = nil end
    dofile(T.source .. "/burst_buffer.lua")
    local path = script(OURS)
    for _, name in ipairs(NAMES) do
      T.equal((_G["slurm_bb_" .. name]("42", path, "x", "x", "x", path)), slurm.SUCCESS, name)
    end
    T.contains(select(2, slurm_bb_pools()), '"atlas"')
    T.equal(select(2, select(2, slurm_bb_pools()):gsub('"atlas"', "")), 1, "pools called atlas")
  end
  helper(RECORD)
  T.fresh("atlas_stage")
  load()
  T.contains(T.read("called"), "data_in 42")
  -- a syntax error in the module, and no module
  local path = package.path
  package.path = T.dir .. "/?.lua"
  T.write("atlas_stage.lua", "this is not lua")
  package.loaded.atlas_stage = nil
  load()
  T.contains(T.logs[#T.logs], "atlas_stage.lua")
  T.remove("atlas_stage.lua")
  load()
  package.path = path
end)

T.test("a hanging atlas-stage is killed in time, its children with it", function()
  helper("echo started; exec sleep 600 & sleep 600")
  T.write("quick_stage.lua", (assert(io.open(T.source .. "/atlas_stage.lua")):read("*a"):gsub("data_in = 25", "data_in = 1")))
  package.path = T.dir .. "/?.lua;" .. package.path
  local environment = {}
  require("quick_stage").install(environment)
  local before = os.time()
  T.equal(environment.slurm_bb_data_in("42", script(OURS)), slurm.SUCCESS)
  assert(os.time() - before < 10, "it took " .. os.time() - before .. " s")
end)

T.finish()
