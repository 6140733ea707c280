-- Where Atlas and Slurm are installed, for atlas_submit.lua and atlas_stage.lua. Written by 'cmake --install'; not for
-- editing. To point somewhere else, set ATLAS_LIBEXEC, ATLAS_CONF or SLURM_CONF in slurmctld's environment.
local function setting(variable, default)
  local value = os.getenv(variable)
  if value ~= nil and value ~= "" then return value end
  return default
end

return {
  libexec = setting("ATLAS_LIBEXEC", "/usr/libexec/atlas"), -- holds atlas-stage
  config = setting("ATLAS_CONF", "/etc/atlas/atlas.toml"),
  slurm_conf = setting("SLURM_CONF", "/etc/slurm/slurm.conf"), -- burst_buffer.lua lies beside it
}
