-- burst_buffer.lua for a site that has none of its own (slurm.conf: BurstBufferType=burst_buffer/lua). Sites that have
-- one add the two lines at the end of this file to the end of theirs.
--
-- Slurm reads this file anew for every hook of every job, and holds jobs when it does not load: there is nothing in it
-- that can go wrong. Whatever happens to atlas_stage.lua, the functions below let every job pass.
local function pass() return slurm.SUCCESS end

slurm_bb_job_process = pass
slurm_bb_setup = pass
slurm_bb_data_in = pass
slurm_bb_test_data_in = pass -- 24.05 and later
slurm_bb_real_size = pass
slurm_bb_paths = pass
slurm_bb_pre_run = pass
slurm_bb_post_run = pass
slurm_bb_data_out = pass
slurm_bb_test_data_out = pass -- 24.05 and later
slurm_bb_job_teardown = pass
slurm_bb_get_status = pass
function slurm_bb_pools()
  return slurm.SUCCESS, '{"pools":[{"id":"atlas","quantity":1000000000,"granularity":1}]}'
end

local atlas_ok, atlas = pcall(require, "atlas_stage")
if atlas_ok then atlas.install() else slurm.log_error("%s", "atlas: " .. tostring(atlas)) end
