"""Reading a complete replica through its mount."""

import os
import shutil
import statistics
import time
from pathlib import Path

import datasets
from cluster import USERS, Cluster, ClusterError, Settings
from report import Report, drop_caches, interval, pairs, progress


def in_job(cluster: Cluster, pid: int, script: str) -> str:
    """Runs a script with the eyes of a running job: in its mount namespace."""
    return cluster.run("nsenter", "-m", "-t", str(pid), "bash", "-c", script, node="n001", timeout=300).check().out.strip()


def timed_read(cluster: Cluster, pid: int, root: Path, names: Path, cold: bool) -> float:
    if cold:
        drop_caches()
    return float(in_job(cluster, pid, f"cd {root} && exec 2>&1; TIMEFORMAT=%R; time xargs -0 -a {names} cat >/dev/null"))


def bench_read(report: Report, quick: bool) -> None:
    files, size, big, count = (1000, 100 * 1024, 256 << 20, 10) if quick else (4000, 100 * 1024, 1 << 30, 12)
    progress(f"reading: {files} files of 100 KiB and one of {big >> 20} MiB, {count} ABBA pairs each")
    cluster = Cluster(Settings(nodes=1, preset="release", slow_origin=False)).up()
    try:
        for name, fill in (("small", lambda root: datasets.small_files(root, files, size)),
                           ("large", lambda root: datasets.big_file(root / "file", big))):
            root, native = cluster.origin / name, cluster.state / f"native-{name}"
            total = fill(root)
            shutil.copytree(root, native)
            names = cluster.state / f"names-{name}"
            names.write_bytes(b"\0".join(sorted(os.fsencode(p.relative_to(root)) for p in root.rglob("*") if p.is_file())) + b"\0")
            pid_file = cluster.state / "jobs" / f"pid-{name}"
            job = cluster.submit(f"echo $$ >{pid_file}.new; mv {pid_file}.new {pid_file}; exec sleep 3000", f"--atlas-dataset={root}",
                                 "--atlas-warm", user=USERS[0])
            cluster.wait_state(job, "RUNNING", timeout=120)
            while not pid_file.exists():
                time.sleep(0.05)
            pid = int(pid_file.read_text())
            mounted, kind, beside = in_job(cluster, pid, f"stat -c %d {root}; stat -f -c %T {root}; stat -c %d {native}").split()
            if mounted != beside or "fuse" in kind or in_job(cluster, pid, f"findmnt -n -o TARGET -T {root}") != str(root):
                raise ClusterError(f"{root} is not a mount of the store's own file system: st_dev {mounted}, native {beside}, {kind}")
            for cold in (True, False):
                if not cold:
                    for tree in (root, native):
                        timed_read(cluster, pid, tree, names, False)
                measured = pairs(lambda: timed_read(cluster, pid, root, names, cold), lambda: timed_read(cluster, pid, native, names, cold),
                                 count)
                ratios = [b / a for a, b in measured]
                low, high = interval(ratios)
                rate = total / 1e6 / statistics.median(a for a, _ in measured)
                report.add(f"read, {name}, {'cold' if cold else 'hot'}", rate, "MB/s", against="native tree",
                           reference=rate / statistics.median(ratios), note=f"{low:.2f} to {high:.2f}", samples=measured)
            cluster.run("scancel", str(job))
    finally:
        cluster.down()
