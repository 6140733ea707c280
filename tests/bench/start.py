"""Start latencies."""

import random
import statistics
import time

import datasets
from cluster import Cluster, Settings
from report import Report, progress


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
