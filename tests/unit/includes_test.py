#!/usr/bin/env python3
"""Who may include whom: dependencies point one way, and each C library has one door. Run by ctest; prints each offending line."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOURCES = ("common", "proto", "db", "controller", "cache-agent", "launcher", "spank-plugin", "sim", "tests")

# directory prefix (longest wins) -> prefixes it may include, besides itself
MAY = {
    "common/": (),
    "proto/": ("common/", "atlas/v1/"),
    "db/": ("common/",),
    "controller/placement/": ("common/",),
    "controller/limits/": ("common/",),
    "controller/slurm/": ("common/",),
    "controller/staging/": ("common/", "db/", "controller/limits/", "controller/placement/", "controller/slurm/slurm_port.h"),
    "controller/": ("common/", "db/", "proto/", "atlas/v1/"),
    "cache-agent/origin/": ("common/", "cache-agent/manifest/"),
    "cache-agent/store/": ("common/", "db/", "cache-agent/origin/", "cache-agent/manifest/"),
    "cache-agent/fetch/": ("common/", "cache-agent/origin/", "cache-agent/store/", "cache-agent/manifest/"),
    "cache-agent/limit/": ("common/", "cache-agent/fetch/"),
    "cache-agent/job_io/": ("common/", "cache-agent/fetch/"),
    "cache-agent/warm/": ("common/", "db/", "cache-agent/origin/", "cache-agent/store/", "cache-agent/fetch/", "cache-agent/manifest/"),
    "cache-agent/": ("common/", "db/", "proto/", "atlas/v1/"),
    "launcher/atlas_stage": ("common/", "proto/", "atlas/v1/", "launcher/", "controller/slurm/"),
    "launcher/": ("common/", "proto/", "atlas/v1/"),
    "spank-plugin/": ("common/",),
    "sim/main.cc": ("common/", "sim/", "launcher/ui.h"),
    "sim/": ("common/", "controller/placement/origin_turns.h", "controller/placement/placement.h", "controller/placement/timeline.h"),
    "tests/": ("",),
}

# system header -> the only places that may include it (tests aside)
DOORS = {
    r"sqlite3\.h": ("db/sqlite.cc",),
    r"munge\.h": ("proto/munge.cc",),
    r"slurm/slurm\w*\.h": ("controller/slurm/",),
    r"slurm/spank\.h": ("spank-plugin/",),
    r"fuse.*\.h": ("cache-agent/view/fuse/",),
    r"toml\+\+/.*": ("common/config.cc", "launcher/"),
    r"CLI/.*": ("launcher/", "sim/main.cc", "controller/main.cc", "cache-agent/main.cc"),
    r"grpcpp/.*": ("proto/", "controller/rpc/", "controller/main.cc", "cache-agent/rpc/", "cache-agent/agent.", "launcher/"),
    r"httplib\.h": ("common/metrics/metrics_server.cc",),
    r"n?curses\.h": ("launcher/atlasctl_screen.cc",),
    r"nlohmann/.*": ("launcher/", "sim/report."),
}
WIRE = re.compile(r"atlas/v1/.*\.pb\.h")
WIRE_AT = ("proto/", "controller/rpc/", "cache-agent/rpc/", "cache-agent/view/", "launcher/", "tests/")


def owner(path):
    return max((p for p in MAY if path.startswith(p)), key=len)


def check(path, line_number, line):
    match = re.match(r'\s*#\s*include\s*([<"])([^>"]+)[>"]', line)
    if not match:
        return
    kind, target = match.groups()
    where = f"{path}:{line_number}"
    if kind == '"' and not (ROOT / target).is_file() and not WIRE.match(target):
        yield f'{where}: "{target}" is not a path from the root of the repository'
        return
    if WIRE.match(target) and not path.startswith(WIRE_AT):
        yield f"{where}: generated types stop at the rpc edge ({', '.join(WIRE_AT)})"
    if kind == '"':
        mine = owner(path)
        home = path.split("/")[0] + "/"
        allowed = (mine, *MAY[mine])
        inside = mine == home and target.startswith(home) and mine in ("controller/", "cache-agent/")
        if not inside and not any(target.startswith(prefix) for prefix in allowed):
            yield f'{where}: {mine} may not include "{target}" (allowed: {", ".join(allowed)})'
    elif not path.startswith("tests/"):
        for pattern, doors in DOORS.items():
            if re.fullmatch(pattern, target) and not path.startswith(doors):
                yield f"{where}: <{target}> belongs to {', '.join(doors)}"


def main():
    complaints, files = [], 0
    for top in SOURCES:
        for file in sorted((ROOT / top).rglob("*")):
            if file.suffix not in (".h", ".cc"):
                continue
            files += 1
            path = file.relative_to(ROOT).as_posix()
            for number, line in enumerate(file.read_text(errors="replace").splitlines(), 1):
                complaints.extend(check(path, number, line))
    print("\n".join(complaints))
    print(f"{files} files, {len(complaints)} complaints")
    return 1 if complaints or files < 20 else 0


if __name__ == "__main__":
    sys.exit(main())
