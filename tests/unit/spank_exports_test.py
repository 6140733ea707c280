#!/usr/bin/env python3
"""The plugin exports what Slurm looks up and nothing else, and asks Slurm's processes for nothing but SPANK's own calls."""
import subprocess
import sys

EXPORTS = {
    "plugin_name", "plugin_type", "plugin_version", "spank_plugin_version",
    "slurm_spank_init", "slurm_spank_init_post_opt", "slurm_spank_task_init_privileged", "slurm_spank_task_init",
}
LIBRARIES = {"libstdc++.so.6", "libm.so.6", "libgcc_s.so.1", "libc.so.6", "ld-linux-x86-64.so.2", "libasan.so.8", "libubsan.so.1", "libtsan.so.2"}


def symbols(library, *options):
    out = subprocess.run(["nm", "-D", *options, library], check=True, capture_output=True, text=True).stdout
    return {line.split()[-1].split("@")[0] for line in out.splitlines()}


def main(library):
    exported = symbols(library, "--defined-only")
    slurm = {s for s in symbols(library, "--undefined-only") if s.startswith(("slurm", "spank", "job_", "step_"))}
    needed = subprocess.run(["objdump", "-p", library], check=True, capture_output=True, text=True).stdout
    needed = {line.split()[1] for line in needed.splitlines() if line.strip().startswith("NEEDED")}
    complaints = [f"exports {s}" for s in sorted(exported - EXPORTS)]
    complaints += [f"does not export {s}" for s in sorted(EXPORTS - exported)]
    complaints += [f"uses {s}" for s in sorted(slurm) if not s.startswith("spank_") and s not in ("slurm_error", "slurm_info", "slurm_spank_log")]
    complaints += [f"needs {s}" for s in sorted(needed - LIBRARIES)]
    print("\n".join(complaints) or f"{len(exported)} exports, {len(slurm)} calls into Slurm")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
