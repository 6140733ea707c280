-- job_submit.lua for a site that has none of its own (slurm.conf: JobSubmitPlugins=lua). Sites that have one add the two
-- lines named in atlas_submit.lua instead.
local atlas_ok, atlas = pcall(require, "atlas_submit")
if not atlas_ok then slurm.log_error("%s", "atlas: " .. tostring(atlas)) end

function slurm_job_submit(job_desc, part_list, submit_uid)
  if atlas_ok then atlas.submit(job_desc, part_list, submit_uid) end
  return slurm.SUCCESS
end

function slurm_job_modify(job_desc, job_rec, part_list, modify_uid)
  return slurm.SUCCESS
end

return slurm.SUCCESS
