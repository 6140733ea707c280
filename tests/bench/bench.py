"""./dev bench [start] [warm] [read] [keep] [--quick] [--json FILE]: what Atlas costs and what it gives, on this machine.

start  how long a trivial job takes to start, with and without Atlas options, its data being there already
warm   how fast a cache is warmed, from a local disk and from the slow origin, against reading alone
read   how fast a job reads through its mount, against a plain copy on the same file system
keep   how much of an epoch a cache smaller than the data serves, against least-recently-used (computed, not measured)

Prints a table and writes JSON. All on a real Slurm cluster. Run it on a quiet machine: differences under 20% may be noise.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

import datasets  # noqa: E402
from cluster import ROOT, USERS, Cluster, ClusterError, Settings  # noqa: E402
from world_client import WorldError  # noqa: E402

LATENCY, BANDWIDTH = 1, "500M"
READERS = 48  # as many operations in flight as Atlas uses by default
RESULTS = ROOT / "build" / "bench"


class Report:
    """Rows of one table: what, value, compared with, ratio; and the same as JSON."""

    def __init__(self) -> None:
        self.rows: list[dict] = []

    def add(self, what: str, value: float, unit: str, *, against: str = "", reference: float | None = None, difference: bool = False,
            note: str = "", samples: object = None) -> None:
        row = {"what": what, "value": value, "unit": unit, "against": against, "reference": reference, "note": note, "samples": samples}
        if reference is not None:
            row["difference" if difference else "ratio"] = value - reference if difference else value / reference
        self.rows.append(row)
        print("  " + self.line(row), flush=True)

    @staticmethod
    def number(value: float | None, unit: str) -> str:
        if value is None:
            return ""
        return f"{value:.2f} {unit}" if abs(value) < 100 else f"{value:.0f} {unit}"

    def cells(self, row: dict) -> list[str]:
        compared = f"{row['difference']:+.2f} {row['unit']}" if "difference" in row else f"{row['ratio']:.2f}" if "ratio" in row else ""
        return [row["what"], self.number(row["value"], row["unit"]), row["against"], self.number(row["reference"], row["unit"]), compared,
                row["note"]]

    def line(self, row: dict) -> str:
        return "  ".join(cell for cell in self.cells(row) if cell)

    def table(self) -> str:
        rows = [["MEASURED", "VALUE", "AGAINST", "VALUE", "RATIO / DIFF", "NOTE"]] + [self.cells(row) for row in self.rows]
        widths = [max(len(row[i]) for row in rows) for i in range(6)]
        return "\n".join("  ".join(c.rjust(w) if i in (1, 3, 4) else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths))).rstrip()
                         for row in rows)


def progress(text: str) -> None:
    print(f"\n{text}", flush=True)


def drop_caches() -> None:
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")


def interval(samples: list[float]) -> tuple[float, float]:
    """Order statistics around the median: at least 95% sure for 10 samples and more, whatever their distribution."""
    ordered = sorted(samples)
    cut = max(0, int(len(ordered) / 2 - 0.98 * len(ordered) ** 0.5 - 0.5))
    return ordered[cut], ordered[-1 - cut]


# ---- start latencies ------------------------------------------------------------------------------------------------


def start_latency(cluster: Cluster, *options: str) -> float:
    """Seconds from typing sbatch to the job's first command, at a moment that has nothing to do with slurmctld's ticks of a second."""
    time.sleep(random.random())
    stamp = cluster.state / "jobs" / f"started-{time.monotonic_ns()}"
    began = time.time()
    job = cluster.submit(f"date +%s.%N >{stamp}", *options)
    cluster.wait_done(job, 120)
    return float(stamp.read_text()) - began


def bench_start(report: Report, quick: bool) -> None:
    rounds = 3 if quick else 15
    for tuned in (True, False):
        name = "tuned scheduler" if tuned else "default scheduler"
        progress(f"start latency, {name}: {rounds} jobs of each kind, in turn")
        kinds: dict[str, list[float]] = {"plain Slurm": [], "Atlas installed, not used": [], "data is there": []}
        # A cluster for each kind: Slurm puts a job off that comes soon after another one (batch_sched_delay).
        with_atlas = Cluster(Settings(nodes=2, preset="release", default_scheduler=not tuned)).up()
        unused = Cluster(Settings(nodes=2, preset="release", default_scheduler=not tuned)).up()
        plain = Cluster(Settings(nodes=2, preset="release", default_scheduler=not tuned, atlas=False)).up()
        try:
            root = with_atlas.origin / "small"
            datasets.small_files(root, 50, 10_000)
            options = (f"--atlas-dataset={root}", "--atlas-warm")
            with_atlas.wait_done(with_atlas.submit("true", *options), 120)
            for _ in range(rounds):
                kinds["plain Slurm"].append(start_latency(plain))
                kinds["Atlas installed, not used"].append(start_latency(unused))
                kinds["data is there"].append(start_latency(with_atlas, *options))
        finally:
            for cluster in (with_atlas, unused, plain):
                cluster.down()
        medians = {kind: statistics.median(samples) for kind, samples in kinds.items()}
        report.add(f"start, {name}, Atlas not used", medians["Atlas installed, not used"], "s", against="plain Slurm",
                   reference=medians["plain Slurm"], difference=True, samples=kinds)
        report.add(f"start, {name}, data is there", medians["data is there"], "s", against="Atlas not used",
                   reference=medians["Atlas installed, not used"], difference=True, note=f"at most +{1.5 if tuned else 5} s", samples=kinds)


# ---- warm-up rates --------------------------------------------------------------------------------------------------


def read_alone(cluster: Cluster, root: Path) -> float:
    drop_caches()
    began = time.monotonic()
    cluster.sh(f"find {root} -type f -print0 | xargs -0 -P {READERS} -n 16 cat >/dev/null", node="n001", timeout=600).check()
    return time.monotonic() - began


def warm_up(cluster: Cluster, root: Path) -> float:
    drop_caches()
    began = time.monotonic()
    cluster.run("atlasctl", "dataset", "warm", str(root), "--node", "n001", timeout=600).check()
    took = time.monotonic() - began
    cluster.run("atlasctl", "evict", str(root)).check()
    return took


def bench_warm(report: Report, quick: bool) -> None:
    files, size, big, rounds = (1000, 100 * 1024, 256 << 20, 1) if quick else (5000, 100 * 1024, 1 << 30, 3)
    for slow in (False, True):
        source = f"slow origin ({LATENCY} ms, {BANDWIDTH}B/s)" if slow else "local disk"
        progress(f"warm-up from the {source}: {files} files of 100 KiB, one file of {big >> 20} MiB; median of {rounds}")
        cluster = Cluster(Settings(nodes=1, preset="release", slow_origin=slow, origin_latency=LATENCY if slow else 0,
                                   origin_bandwidth=BANDWIDTH if slow else "0")).up()
        try:
            small, large = cluster.origin / "small", cluster.origin / "large"
            datasets.small_files(small, files, size)
            datasets.big_file(large / "file", big)
            for root, unit, amount in ((small, "files/s", files), (large, "MB/s", big / 1e6)):
                alone, warmed = [], []
                for _ in range(rounds):
                    alone.append(read_alone(cluster, root))
                    warmed.append(warm_up(cluster, root))
                report.add(f"warm-up, {source}, {root.name} files", amount / statistics.median(warmed), unit, against="reading alone",
                           reference=amount / statistics.median(alone), samples={"warm": warmed, "alone": alone})
                if root is small:
                    report.add(f"warm-up, {source}, {root.name} files", files * size / 1e6 / statistics.median(warmed), "MB/s",
                               against="reading alone", reference=files * size / 1e6 / statistics.median(alone))
        finally:
            cluster.down()


# ---- reading --------------------------------------------------------------------------------------------------------


def in_job(cluster: Cluster, pid: int, script: str) -> str:
    """Runs a script with the eyes of a running job: in its mount namespace."""
    return cluster.run("nsenter", "-m", "-t", str(pid), "bash", "-c", script, node="n001", timeout=300).check().out.strip()


def timed_read(cluster: Cluster, pid: int, root: Path, names: Path, cold: bool) -> float:
    if cold:
        drop_caches()
    return float(in_job(cluster, pid, f"cd {root} && exec 2>&1; TIMEFORMAT=%R; time xargs -0 -a {names} cat >/dev/null"))


def pairs(measure_a: Callable[[], float], measure_b: Callable[[], float], count: int) -> list[tuple[float, float]]:
    """ABBA: what drifts on the machine falls on both."""
    measured = []
    for number in range(count):
        if number % 2 == 0:
            a = measure_a()
            b = measure_b()
        else:
            b = measure_b()
            a = measure_a()
        measured.append((a, b))
    return measured


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


def bench_keep(report: Report, quick: bool) -> None:
    """Three epochs in random order; the first one finds nothing, the third one stands for all later ones."""
    program = ROOT / "build" / os.environ.get("ATLAS_PRESET", "dev") / "tests" / "keep-policy"
    for percent in (25, 50, 75):
        argv = [program, "10000" if quick else "100000", str(percent), "3", "7"]
        ratios = json.loads(subprocess.run(list(map(str, argv)), capture_output=True, text=True, check=True).stdout)
        report.add(f"hits of an epoch, cache {percent}% of the data", 100 * ratios["kept"][-1], "%", against="least recently used",
                   reference=100 * ratios["lru"][-1], samples=ratios)


def main() -> int:
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sections = {"start": bench_start, "warm": bench_warm, "read": bench_read, "keep": bench_keep}
    parser.add_argument("section", nargs="*", help="start, warm, read, keep (default: all)")
    parser.add_argument("--quick", action="store_true", help="smaller data, fewer rounds: to see that it works")
    parser.add_argument("--json", type=Path, default=RESULTS / "bench.json", metavar="FILE")
    options = parser.parse_args()
    if unknown := set(options.section) - sections.keys():
        parser.error(f"unknown section '{unknown.pop()}': {', '.join(sections)}")
    report = Report()
    try:
        for name in options.section or sections:
            sections[name](report, options.quick)
    except (ClusterError, WorldError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps({"when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "quick": options.quick,
                                        "machine": {"cpus": os.cpu_count(), "kernel": os.uname().release}, "rows": report.rows}, indent=1))
    print(f"\n{report.table()}\n\nsamples: {options.json}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
