"""Reading a partial replica through its FUSE view, behind the slow origin."""

import contextlib
import shutil
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import datasets
from cluster import ROOT, USERS, Cluster, ClusterError, Settings
from report import BANDWIDTH, LATENCY, Report, drop_caches, in_turns, interval, pairs, progress
from warm import TREE_IO

WORKERS = 8  # readers at a time, as a DataLoader has them
FLUSH = 7  # seconds in which an agent has the disk take what was read; then the kernel reads large files by itself
EXAMPLE = ROOT / "build" / "libfuse" / "bin" / "passthrough_hp"  # libfuse's own, see tests/support/libfuse.sh
WAYS = {  # of reading what is in memory: arguments of tree-io
    "small": {"one reader": "epoch . 1", "four readers": "epoch . 4"},
    "large": {"in order": "read . 1", "random 4k": "random . 1 4096", "random 64k": "random . 1 65536", "mapped": "map . 1"}}


class Reader:
    """A job that stays, and epochs read with its eyes."""

    def __init__(self, cluster: Cluster, root: Path, *options: str) -> None:
        self.cluster, self.root = cluster, root
        pid_file = cluster.state / "jobs" / f"pid-{time.monotonic_ns()}"
        self.job = cluster.submit(f"echo $$ >{pid_file}.new; mv {pid_file}.new {pid_file}; exec sleep 3000", f"--atlas-dataset={root}",
                                  *options, user=USERS[0])
        cluster.wait_state(self.job, "RUNNING", timeout=120)
        while not pid_file.exists():
            time.sleep(0.05)
        self.pid = int(pid_file.read_text())

    def expect(self, kind: str) -> None:
        found = self.cluster.run("nsenter", "-m", "-t", str(self.pid), "stat", "-f", "-c", "%T", self.root, node="n001").check().out.strip()
        if ("fuse" in found) != (kind == "fuse"):
            raise ClusterError(f"{self.root} is {found} in the job, not {kind}: the benchmark would measure something else")

    def way(self, arguments: str) -> float:
        return way(self.cluster, self.root, arguments, "nsenter", "-m", "-t", str(self.pid))

    def epoch(self, cold: bool) -> float:
        return epoch(self.cluster, self.root, cold, "nsenter", "-m", "-t", str(self.pid))

    def end(self) -> None:
        self.cluster.run("scancel", str(self.job)).check()
        self.cluster.wait_state(self.job, "CANCELLED", timeout=60)


def epoch(cluster: Cluster, root: Path, cold: bool, *within: str) -> float:
    """Names are relative: an absolute path leads through the slow origin, which is asked for each of its directories each time."""
    if cold:
        drop_caches()
    return float(cluster.run(*within, "bash", "-c", f"cd {root} && exec {TREE_IO} epoch . {WORKERS}", node="n001", timeout=600).check().out)


def way(cluster: Cluster, root: Path, arguments: str, *within: str) -> float:
    return float(cluster.run(*within, "bash", "-c", f"cd {root} && exec {TREE_IO} {arguments}", node="n001", timeout=600).check().out)


@contextlib.contextmanager
def mounted(cluster: Cluster, name: str, command: str) -> Iterator[Path]:
    """Something that mounts what it is told to at the end of its command, and goes into the background."""
    mount = cluster.state / f"mount-{name}"
    mount.mkdir(exist_ok=True)
    cluster.sh(f"{command} {mount}", node="n001").check()
    try:
        yield mount
    finally:
        cluster.sh(f"umount {mount} || fusermount3 -u {mount}", node="n001")


def bench_ways(report: Report, cluster: Cluster, reader: Reader, name: str, native: Path, rounds: int) -> None:
    """What is resident and in memory, through the view, natively, and through two other mounts of the native tree."""
    with contextlib.ExitStack() as mounts:
        others = {}
        if EXAMPLE.exists():
            others["libfuse's passthrough example"] = mounts.enter_context(mounted(cluster, "example", f"{EXAMPLE} {native}"))
        if shutil.which("rclone"):
            cache = cluster.state / "rclone-ways"
            others["rclone mount, vfs full"] = mounts.enter_context(mounted(
                cluster, "rclone", f"rclone mount --config /dev/null --vfs-cache-mode full --read-only --dir-cache-time 24h --cache-dir {cache} "
                f"--daemon :local:{native}"))
        for label, arguments in WAYS[name].items():
            measures = {"view": lambda: reader.way(arguments), "native": lambda: way(cluster, native, arguments)}
            measures |= {other: lambda mount=mount: way(cluster, mount, arguments) for other, mount in others.items()}
            for measure in measures.values():
                measure()  # so that all of it is in memory
            times = in_turns(measures, rounds)
            for other in ["view", *others]:
                ratios = [n / t for n, t in zip(times["native"], times[other])]
                low, high = interval(ratios)
                # As rates relative to the native one, which is 1.
                report.add(f"{other}, {name}, hot, {label}", statistics.median(ratios), "x", against="native tree", reference=1.0,
                           note=f"{low:.2f} to {high:.2f}", samples=times[other])


def with_rclone(cluster: Cluster, root: Path) -> tuple[float, float, float]:
    """First epoch, second one with the page cache dropped, third one hot, through rclone mount."""
    mount, cache = cluster.state / "rclone", cluster.state / "rclone-cache"
    mount.mkdir(exist_ok=True)
    cluster.sh(f"rclone mount --config /dev/null --vfs-cache-mode full --vfs-cache-max-age 24h --read-only --dir-cache-time 24h "
               f"--vfs-read-ahead 0 --cache-dir {cache} --daemon :local:{root} {mount}", node="n001").check()
    try:
        return epoch(cluster, mount, True), epoch(cluster, mount, True), epoch(cluster, mount, False)
    finally:
        cluster.sh(f"fusermount3 -u {mount}; rm -rf {cache}", node="n001")


def bench_view(report: Report, quick: bool) -> None:
    files, size, big, count = (600, 100 * 1024, 128 << 20, 10) if quick else (4000, 100 * 1024, 1 << 30, 12)
    progress(f"views behind the slow origin ({LATENCY} ms, {BANDWIDTH}B/s): {files} files of 100 KiB, one of {big >> 20} MiB, random order, "
             f"{WORKERS} readers")
    cluster = Cluster(Settings(nodes=1, preset="release", origin_latency=LATENCY, origin_bandwidth=BANDWIDTH)).up()
    try:
        for name, fill in (("small", lambda root: datasets.small_files(root, files, size)),
                           ("large", lambda root: datasets.big_file(root / "file", big))):
            root, native = cluster.origin / name, cluster.state / f"native-{name}"
            total = fill(root) / 1e6
            cluster.sh(f"cp -r {root} {native}", node="n001", timeout=600).check()

            def first_epoch() -> float:
                cluster.run("atlasctl", "evict", str(root)).check()
                drop_caches()  # before: the cache fills from the job's start on
                reader = Reader(cluster, root)
                took = reader.epoch(cold=False)
                reader.expect("fuse")
                reader.end()
                return took

            times = in_turns({"direct": lambda: epoch(cluster, root, True), "view": first_epoch}, 1 if quick else 3)
            direct = statistics.median(times["direct"])
            report.add(f"view, {name}, first epoch", total / statistics.median(times["view"]), "MB/s", against="the origin directly",
                       reference=total / direct, note="at least 1.0", samples=times)
            rclone = with_rclone(cluster, root)
            report.add(f"view, {name}, first epoch", total / statistics.median(times["view"]), "MB/s", against="rclone mount",
                       reference=total / rclone[0], samples=rclone)

            cluster.run("atlasctl", "evict", str(root)).check()
            reader = Reader(cluster, root)
            reader.expect("fuse")
            reader.epoch(cold=True)
            for cold, peer in ((True, rclone[1]), (False, rclone[2])):
                measured = pairs(lambda: reader.epoch(cold), lambda: epoch(cluster, native, cold), count)
                ratios = [b / a for a, b in measured]
                low, high = interval(ratios)
                rate = total / statistics.median(a for a, _ in measured)
                label = f"view, {name}, all resident, {'cold' if cold else 'hot'}"
                report.add(label, rate, "MB/s", against="native tree", reference=rate / statistics.median(ratios),
                           note=f"{low:.2f} to {high:.2f}", samples=measured)
                report.add(label, rate, "MB/s", against="rclone mount", reference=total / peer)
            time.sleep(FLUSH)
            bench_ways(report, cluster, reader, name, native, count)
            reader.end()

            reader = Reader(cluster, root, "--atlas-warm")
            reader.expect("native")
            cluster.origin_ctl("reset")
            warm = statistics.median(reader.epoch(cold=True) for _ in range(3))
            report.add(f"complete replica, {name}, cold epoch", total / warm, "MB/s", against="the origin directly", reference=total / direct,
                       note=f"{cluster.origin_stats()['read_bytes']} origin bytes")
            reader.end()
    finally:
        cluster.down()
