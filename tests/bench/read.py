"""Reading a complete replica through its mount."""

import os
import shlex
import shutil
import statistics
import sys
import time
from pathlib import Path

import datasets
from cluster import ROOT, USERS, Cluster, ClusterError, Settings
from report import Report, drop_caches, interval, pairs, progress


def in_job(cluster: Cluster, pid: int, script: str) -> str:
    """Runs a script with the eyes of a running job: in its mount namespace."""
    return cluster.run("nsenter", "-m", "-t", str(pid), "bash", "-c", script, node="n001", timeout=300).check().out.strip()


TREE_IO = ROOT / "build" / "release" / "bin" / "tree-io"
IMPORTS = "asyncio, argparse, csv, ctypes, decimal, difflib, email.message, html.parser, http.client, json, logging.config, sqlite3, unittest.mock, xml.dom.minidom"


class Way:
    """One way of reading a tree: a shell command that prints seconds, and in what its speed is given."""

    def __init__(self, name: str, command: str, unit: str, amount: float, cold: bool = True) -> None:
        self.name, self.command, self.unit, self.amount, self.cold = name, command, unit, amount, cold

    def seconds(self, cluster: Cluster, pid: int, root: Path, cold: bool) -> float:
        if cold:
            drop_caches()
        return float(in_job(cluster, pid, self.command.format(root=root)))


def tree_io(verb: str, threads: int, last: str = "") -> str:
    return f"{TREE_IO} {verb} {{root}} {threads} {last}"


def ways_of_small(names: Path, files: int, total: int) -> list[Way]:
    """Files of 100 KiB."""
    return [Way("cat", f"cd {{root}} && exec 2>&1; TIMEFORMAT=%R; time xargs -0 -a {names} cat >/dev/null", "MB/s", total / 1e6),
            Way("one thread", tree_io("read", 1), "MB/s", total / 1e6), Way("four threads", tree_io("read", 4), "MB/s", total / 1e6),
            Way("stat", tree_io("stat", 1), "/s", 10 * files, False), Way("walk", tree_io("walk", 1), "entries/s", files)]


def ways_of_large(names: Path, total: int) -> list[Way]:
    """One file; read at random and mapped it is in memory: a disk's own speed says nothing of Atlas."""
    return [Way("cat", f"cd {{root}} && exec 2>&1; TIMEFORMAT=%R; time xargs -0 -a {names} cat >/dev/null", "MB/s", total / 1e6),
            Way("random 4 KiB", tree_io("random", 1, "4096"), "/s", 50_000), Way("random 64 KiB", tree_io("random", 1, "65536"), "/s", 50_000, False),
            Way("mapped", tree_io("map", 1), "pages/s", total / 4096, False)]


def ways_of_python() -> list[Way]:
    script = f"import sys; sys.path[:] = [sys.argv[1], sys.argv[1] + '/lib-dynload']; import {IMPORTS}; assert asyncio.__file__.startswith(sys.argv[1])"
    return [Way("imports", f"exec 2>&1; TIMEFORMAT=%R; time /usr/bin/python3 -I -S -B -c {shlex.quote(script)} {{root}}", "/s", 1)]


def python_tree(root: Path) -> None:
    """Python's own library, with what was compiled of it."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    shutil.copytree(Path("/usr/lib") / version, root, symlinks=True, ignore=shutil.ignore_patterns("dist-packages", "test", "EXTERNALLY-MANAGED"))


def job_with(cluster: Cluster, root: Path, native: Path, name: str) -> tuple[int, int]:
    """A job that has all of it, as a mount of the store's own file system; its id and a process of it."""
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
    return job, pid


def compare(report: Report, cluster: Cluster, pid: int, name: str, trees: tuple[Path, Path], way: Way, count: int) -> None:
    for cold in (True, False):
        if cold and not way.cold:
            continue
        if not cold:
            for tree in trees:
                way.seconds(cluster, pid, tree, False)
        measured = pairs(lambda: way.seconds(cluster, pid, trees[0], cold), lambda: way.seconds(cluster, pid, trees[1], cold), count)
        ratios = [b / a for a, b in measured]
        low, high = interval(ratios)
        rate = way.amount / statistics.median(a for a, _ in measured)
        report.add(f"{name}, {way.name}, {'cold' if cold else 'hot'}", rate, way.unit, against="native tree",
                   reference=rate / statistics.median(ratios), note=f"{low:.2f} to {high:.2f}", samples=measured)


def bench_read(report: Report, quick: bool) -> None:
    files, size, big, count = (1000, 100 * 1024, 256 << 20, 10) if quick else (4000, 100 * 1024, 1 << 30, 12)
    progress(f"reading: {files} files of 100 KiB, one of {big >> 20} MiB, Python's library; {count} ABBA pairs each")
    cluster = Cluster(Settings(nodes=1, preset="release", slow_origin=False)).up()
    try:
        for name, fill in (("small", lambda root: datasets.small_files(root, files, size)),
                           ("large", lambda root: datasets.big_file(root / "file", big)), ("python", python_tree)):
            root, native = cluster.origin / name, cluster.state / f"native-{name}"
            total = fill(root)
            shutil.copytree(root, native, symlinks=True)
            names = cluster.state / f"names-{name}"
            names.write_bytes(b"\0".join(sorted(os.fsencode(p.relative_to(root)) for p in root.rglob("*") if p.is_file())) + b"\0")
            job, pid = job_with(cluster, root, native, name)
            ways = {"small": lambda: ways_of_small(names, files, total), "large": lambda: ways_of_large(names, total), "python": ways_of_python}
            for way in ways[name]():
                compare(report, cluster, pid, name, (root, native), way, count)
            cluster.run("scancel", str(job))
    finally:
        cluster.down()
