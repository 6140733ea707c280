local T = require("fake_slurm")
local REQUEST = "v1,w=wait,c=2147483648,d=/lustre/speech"

-- What Slurm says for fields that are not set.
local function job(fields)
  local desc = { user_id = 1001, spank_job_env = { [0] = "OTHER=1", [1] = "ATLAS_REQ=" .. REQUEST }, begin_time = 0,
    het_job_offset = 4294967294, immediate = 0, script = "#!/bin/sh\n" }
  for key, value in pairs(fields or {}) do desc[key] = value end
  return desc
end

local function site(fields)
  fields = fields or {}
  T.write("slurm.conf", fields.conf or "ClusterName=x\nBurstBufferType=burst_buffer/lua\n")
  T.write("burst_buffer.lua", fields.script or 'local ok, atlas = pcall(require, "atlas_stage")\n')
  T.write("atlas.toml", fields.toml or '[warm]\nmax_wait = "10m"\ncontroller_grace = "1d"\n')
  return T.fresh("atlas_submit")
end

local function submit(desc, fields)
  local atlas = site(fields)
  T.equal(atlas.submit(desc, {}, desc.user_id), slurm.SUCCESS, "result")
  return desc
end

local function untouched(desc)
  T.equal(desc.burst_buffer, nil, "burst_buffer")
  T.equal(desc.admin_comment, nil, "admin_comment")
  T.equal(desc.begin_time, 0, "begin_time")
end

T.test("a job gets the directive, with pool and capacity in front of the request", function()
  local desc = submit(job())
  T.equal(desc.burst_buffer, "#BB_LUA atlas pool=atlas capacity=1 req=" .. REQUEST)
  T.equal(desc.begin_time, 0, "begin_time")
  T.equal(desc.admin_comment, nil, "admin_comment")
  T.equal(#T.logs + #T.told, 0, "messages")
end)

T.test("salloc and srun, which have no script, get it too", function()
  local desc = job()
  desc.script = nil
  T.contains(submit(desc).burst_buffer, "#BB_LUA atlas ")
end)

T.test("a directive that the user or the site gave stays, behind Atlas'", function()
  T.equal(submit(job({ burst_buffer = "#BB_LUA capacity=5" })).burst_buffer,
    "#BB_LUA atlas pool=atlas capacity=1 req=" .. REQUEST .. "\n#BB_LUA capacity=5")
end)

T.test("a job without a request is left alone", function()
  untouched(submit({ user_id = 1001, begin_time = 0 }))
  untouched(submit(job({ spank_job_env = { [0] = "XATLAS_REQ=v1,d=/a", [1] = "ATLAS_REQX=v1,d=/a" } })))
  T.equal(#T.logs + #T.told, 0, "messages")
end)

T.test("a forged request is refused, named to the user, and costs nothing else", function()
  for _, forged in ipairs({ "v1,d=/a;rm -rf /", "v1,d=/a b", "v1,d=$(id)", "v1,d=/a\n#BB_LUA x", "d=/a", "",
    "v1,d=/a'", "v1,d=/a`id`", "v1,d=\255", "v1,d=/a\\" }) do
    untouched(submit(job({ spank_job_env = { [0] = "ATLAS_REQ=" .. forged } })))
    T.contains(T.told[1], "malformed")
  end
  untouched(submit(job({ spank_job_env = { [0] = "ATLAS_REQ=v1,d=/" .. string.rep("a", 8192) } })))
  T.contains(T.told[1], "8 KiB")
end)

T.test("a request too long for Slurm's burst buffer field travels in admin_comment", function()
  local longest = "v1,d=/" .. string.rep("a", 8192 - 6)
  local desc = submit(job({ spank_job_env = { [0] = "ATLAS_REQ=" .. longest } }))
  T.equal(desc.burst_buffer, nil, "burst_buffer")
  T.equal(desc.admin_comment, "atlas:" .. longest)
  local prefix = "#BB_LUA atlas pool=atlas capacity=1 req="
  local fits = "v1,d=/" .. string.rep("a", 8192 - #prefix - 6)
  T.equal(#submit(job({ spank_job_env = { [0] = "ATLAS_REQ=" .. fits } })).burst_buffer, 8192)
  desc = submit(job({ spank_job_env = { [0] = "ATLAS_REQ=" .. fits }, burst_buffer = "#BB_LUA mine" }))
  T.equal(desc.burst_buffer, "#BB_LUA mine")
  T.equal(desc.admin_comment, "atlas:" .. fits)
end)

T.test("root's jobs are never staged", function()
  untouched(submit(job({ user_id = 0 })))
  T.contains(T.told[1], "root")
end)

T.test("an array waits in its begin time, with the request in admin_comment", function()
  local now = os.time()
  local desc = submit(job({ array_inx = "0-99%5", admin_comment = "ticket 7" }))
  T.equal(desc.burst_buffer, nil, "burst_buffer")
  local begin = desc.begin_time - 600
  assert(begin >= now and begin <= os.time(), "begin_time")
  T.equal(desc.admin_comment, "ticket 7 atlas:" .. REQUEST .. " atlas-begin:" .. begin)
end)

T.test("an array that does not want to wait keeps its begin time", function()
  for _, request in ipairs({ "v1,d=/a", "v1,w=overlap,d=/a", "v1,l=0.9@0,d=/a" }) do
    local desc = submit(job({ array_inx = "1-2", spank_job_env = { [0] = "ATLAS_REQ=" .. request } }))
    T.equal(desc.begin_time, 0, "begin_time")
    T.equal(desc.admin_comment, "atlas:" .. request)
  end
end)

T.test("an array's own begin time is the earliest of all", function()
  local own = os.time() + 5000
  local desc = submit(job({ array_inx = "1-2", begin_time = own }))
  T.equal(desc.begin_time, own + 600, "begin_time")
  T.contains(desc.admin_comment, "atlas-begin:" .. own)
end)

T.test("locality waits as long as it says, and max_wait is the most", function()
  for request, wait in pairs({ ["v1,l=0.9@90,d=/a"] = 90, ["v1,l=1@6000,d=/a"] = 600 }) do
    local now = os.time()
    local desc = submit(job({ array_inx = "1-2", spank_job_env = { [0] = "ATLAS_REQ=" .. request } }))
    assert(desc.begin_time - wait - now <= 1, "begin_time")
  end
end)

T.test("max_wait is read from atlas.toml as the daemons read it, and has a default", function()
  for toml, wait in pairs({
    ['[warm]\nmax_wait = "90s" # comment\n'] = 90,
    ['[controller]\nmax_wait = "1s"\n[warm]\nmax_wait = "2h"\n'] = 7200,
    ["[warm]\n  max_wait='1d'\n"] = 86400,
    ['[warm]\nmax_wait = "45"\n'] = 2700,
    ['[warm]\nmax_wait = "1500ms"\n'] = 2,
    ['[warm]\n# max_wait = "1s"\n'] = 1800,
    ['[warm]\n[[origin]]\nmax_wait = "1s"\n'] = 1800,
    ['[warm]\nmax_wait = "1:30:00"\n'] = 5400,
    ['[warm]\nmax_wait = "10:00"\n'] = 600,
    ['[warm]\nmax_wait = "soon"\n'] = 1800,
    ["nonsense ]["] = 1800,
  }) do
    local now = os.time()
    toml = toml .. '\n[warm]\ncontroller_grace = "2d"\n'
    local desc = submit(job({ array_inx = "1-2" }), { toml = toml })
    assert(desc.begin_time - now - wait <= 1 and desc.begin_time - now >= wait, toml)
  end
end)

T.test("an array waits for a controller that is away no longer than any other job", function()
  for toml, wait in pairs({
    ['[warm]\nmax_wait = "10m"\n'] = 60,
    ['[warm]\nmax_wait = "10m"\ncontroller_grace = "5s"\n'] = 5,
    ['[warm]\nmax_wait = "30s"\n'] = 30,
  }) do
    local now = os.time()
    local desc = submit(job({ array_inx = "1-2" }), { toml = toml })
    assert(desc.begin_time - now - wait <= 1 and desc.begin_time - now >= wait, toml)
  end
end)

T.test("a heterogeneous job does not wait, and its user is told", function()
  local desc = submit(job({ het_job_offset = 1 }))
  T.equal(desc.burst_buffer, nil, "burst_buffer")
  T.equal(desc.begin_time, 0, "begin_time")
  T.equal(desc.admin_comment, "atlas:" .. REQUEST)
  T.contains(T.told[1], "does not wait")
end)

T.test("--immediate is not held up by hooks", function()
  local desc = submit(job({ immediate = 1 }))
  T.equal(desc.burst_buffer, nil, "burst_buffer")
  T.equal(desc.begin_time, 0, "begin_time")
  T.equal(desc.admin_comment, "atlas:" .. REQUEST)
end)

T.test("no directive is written where Slurm would refuse it", function()
  for trouble, fields in pairs({
    ["BurstBufferType"] = { conf = "ClusterName=x\nBurstBufferType=burst_buffer/datawarp\n" },
    ["does not load atlas_stage"] = { script = "-- a site's own, without atlas_stage\n" },
    ["burst_buffer.lua"] = { script = 'local ok = pcall(require, "atlas_stage") end end\n' },
  }) do
    local desc = submit(job(), fields)
    T.equal(desc.burst_buffer, nil, "burst_buffer")
    assert(desc.begin_time > os.time() + 590, "begin_time")
    T.contains(desc.admin_comment, "atlas:" .. REQUEST)
    T.contains(T.logs[1], trouble)
  end
end)

T.test("a configuration that includes other files is trusted to name the plugin there", function()
  T.contains(submit(job(), { conf = "Include other.conf\n" }).burst_buffer, "#BB_LUA atlas")
  T.contains(submit(job(), { conf = "burstbuffertype = burst_buffer/lua" }).burst_buffer, "#BB_LUA atlas")
end)

T.test("no burst_buffer.lua at all: by the queue", function()
  local atlas = site()
  T.remove("burst_buffer.lua")
  local desc = job()
  atlas.submit(desc)
  T.equal(desc.burst_buffer, nil, "burst_buffer")
  T.contains(desc.admin_comment, "atlas:")
end)

T.test("the setting of the site switches directives off", function()
  local toml = '[warm]\nmax_wait = "10m"\ncontroller_grace = "1d"\n[site]\n# burst_buffer = true\nburst_buffer = false # here\n'
  local desc = submit(job(), { toml = toml })
  T.equal(desc.burst_buffer, nil, "burst_buffer")
  T.contains(desc.admin_comment, "atlas:" .. REQUEST)
  assert(desc.begin_time > os.time() + 590, "begin_time")
  T.contains(T.logs[1], "site.burst_buffer is false in ")
  for _, other in ipairs({ "[site]\nburst_buffer = true\n", "[site]\n# burst_buffer = false\n", "[warm]\nburst_buffer = false\n" }) do
    T.contains(submit(job(), { toml = other }).burst_buffer, "#BB_LUA atlas")
  end
end)

T.test("an error inside is logged and the submit goes on", function()
  local atlas = site()
  local hostile = setmetatable({}, { __index = function() error("no such field") end })
  T.equal(atlas.submit(hostile), slurm.SUCCESS)
  T.contains(T.logs[1], "no such field")
  T.equal(atlas.submit(nil), slurm.SUCCESS)
end)

T.test("the example script works with the module and without it", function()
  site()
  dofile(T.source .. "/job_submit.lua")
  local desc = job()
  T.equal(slurm_job_submit(desc, {}, 1001), slurm.SUCCESS)
  T.contains(desc.burst_buffer, "#BB_LUA atlas")
  T.equal(slurm_job_modify(desc, {}, {}, 1001), slurm.SUCCESS)
  package.loaded.atlas_submit = nil
  local path = package.path
  package.path = "/nowhere/?.lua"
  T.equal(dofile(T.source .. "/job_submit.lua"), slurm.SUCCESS)
  package.path = path
  desc = job()
  T.equal(slurm_job_submit(desc, {}, 1001), slurm.SUCCESS)
  untouched(desc)
end)

T.finish()
