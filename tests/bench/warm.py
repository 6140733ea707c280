"""How fast a cache is warmed: against what the machine can do at most, and against the tools people copy with."""

import shutil
import statistics
from pathlib import Path

import datasets
from cluster import ROOT, Cluster, Settings
from report import BANDWIDTH, LATENCY, READERS, Report, drop_caches, in_turns, progress, timed

TREE_IO = ROOT / "build" / "release" / "bin" / "tree-io"

# The best settings found for each on two cores; all copy into an empty directory and sync it, as a warm-up does.
TOOLS = {
    "cp -r": "cp -r {source} {target}",
    "rsync -a": "rsync -a {source}/ {target}/",
    "fpsync -n 8": "fpsync -n 8 -f {part} -t {scratch} {source}/ {target}/",
    "rclone copy": "rclone copy --transfers 32 --checkers 32 {rclone} --config /dev/null "
                   "--local-no-check-updated --size-only {source} {target}",
}
# They wait for one file after the other, so their rate does not depend on how many there are. Behind the slow origin they get a part of them.
ONE_BY_ONE = ("cp -r", "rsync -a")


def tree_io(cluster: Cluster, *argv: object) -> float:
    drop_caches()
    return float(cluster.run(TREE_IO, *map(str, argv), node="n001", timeout=600).check().out)


def make(cluster: Cluster, verb: str, root: Path) -> float:
    target = cluster.state / "made"
    took = tree_io(cluster, verb, root, READERS, target)
    shutil.rmtree(target)
    return took


def warm_up(cluster: Cluster, root: Path) -> float:
    drop_caches()
    took = timed(lambda: cluster.run("atlasctl", "dataset", "warm", str(root), "--node", "n001", timeout=600).check())
    cluster.run("atlasctl", "evict", str(root)).check()
    return took


def cost_of_steps(cluster: Cluster, root: Path) -> dict[str, float]:
    """Microseconds for each thing that is done to a file, in their order; nothing beside it."""
    target = cluster.state / "made"
    drop_caches()
    out = cluster.run(TREE_IO, "steps", root, "1", target, node="n001", timeout=600).check().out
    shutil.rmtree(target)
    costs = {step.split(" ", 1)[1]: (int(step.split(" ", 1)[0]), float(cost)) for step, cost in (line.split("\t") for line in out.splitlines())}
    return {step: cost for step, (_, cost) in sorted(costs.items(), key=lambda item: item[1][0])}


def copy(cluster: Cluster, root: Path, command: str, files: int, slow: bool) -> float:
    target, scratch = cluster.state / "copied", cluster.state / "scratch"
    scratch.mkdir(exist_ok=True)
    drop_caches()
    # Behind the slow origin several streams, or no buffer, make rclone five to ten times slower for one large file.
    rclone = "--multi-thread-streams 0 --buffer-size 16M" if slow else "--multi-thread-streams 8 --buffer-size 0"
    line = command.format(source=root, target=target, scratch=scratch, part=max(1, files // 40), rclone=rclone)
    line += f" && sync -f {target}"
    took = timed(lambda: cluster.sh(line, node="n001", timeout=600).check())
    shutil.rmtree(target)
    shutil.rmtree(scratch)
    return took


def bench_source(report: Report, source: str, slow: bool, files: int, big: int, rounds: int) -> None:
    size = 100 * 1024
    few = files // 10 if slow else files
    progress(f"warm-up from the {source}: {files} files of 100 KiB ({few} for {' and '.join(ONE_BY_ONE)}), one file of {big >> 20} MiB; "
             f"median of {rounds}")
    cluster = Cluster(Settings(nodes=1, preset="release", slow_origin=slow, origin_latency=LATENCY if slow else 0,
                               origin_bandwidth=BANDWIDTH if slow else "0")).up()
    try:
        small, some, large = cluster.origin / "small", cluster.origin / "some", cluster.origin / "large"
        datasets.small_files(small, files, size)
        if few != files:
            datasets.small_files(some, few, size)
        datasets.big_file(large / "file", big)
        for step, cost in cost_of_steps(cluster, some if few != files else small).items():
            report.add(f"a file of 100 KiB, {source}: {step}", cost, "us")
        for root, unit, count, amount in ((small, "files/s", files, files), (large, "MB/s", 1, big / 1e6)):
            less = {name: (some, few) for name in ONE_BY_ONE} if root == small and few != files else {}
            times = in_turns({
                "atlas": lambda: warm_up(cluster, root),
                "reading alone": lambda: tree_io(cluster, "read", root, READERS),
                "creating alone": lambda: make(cluster, "create", root),
                "plain copy, 48 threads": lambda: make(cluster, "copy", root),
                **{name: lambda name=name: copy(cluster, less.get(name, (root,))[0], TOOLS[name], count, slow) for name in TOOLS},
            }, rounds)
            rate = {name: less.get(name, (root, amount))[1] / statistics.median(samples) for name, samples in times.items()}
            ceiling = min("reading alone", "creating alone", key=rate.__getitem__)
            report.add(f"warm-up, {source}, {root.name} files", rate["atlas"], unit, against=ceiling, reference=rate[ceiling],
                       note="at least 0.9", samples=times)
            for name in ("reading alone", "creating alone", "plain copy, 48 threads", *TOOLS):
                if name != ceiling:
                    report.add(f"warm-up, {source}, {root.name} files", rate["atlas"], unit, against=name, reference=rate[name],
                               note=f"of {few} files" if name in less else "")
    finally:
        cluster.down()


def bench_warm(report: Report, quick: bool) -> None:
    bench_source(report, "local disk", False, *((1000, 256 << 20, 1) if quick else (20_000, 4 << 30, 3)))


def bench_warm_slow(report: Report, quick: bool) -> None:
    """Fewer files, and a smaller one: rates are those of any number, and most of the time goes into deleting copies."""
    bench_source(report, f"slow origin ({LATENCY} ms, {BANDWIDTH}B/s)", True, *((500, 256 << 20, 1) if quick else (1500, 512 << 20, 3)))
