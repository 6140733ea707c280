"""Dead time: from the last byte of a dataset to the job's first command, on a node that was free all the time; and how much of a warm-up lies in
the time in which the job would have waited for nodes anyway."""

import math
import threading
import time
from pathlib import Path

import datasets
from cluster import Cluster, Settings
from report import Report, progress

FILES, SIZE, SECONDS = 60, 50_000, 3  # of a dataset, and how long it takes from the origin


class Copy:
    """When a dataset began to leave the origin, and when the last of its files lay in a node's store."""

    def __init__(self, cluster: Cluster):
        self.began, self.first = time.time(), 0.0
        self.cluster = cluster
        cluster.origin_ctl("reset")
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()

    def watch(self) -> None:
        deadline = time.monotonic() + 120
        while not self.first and time.monotonic() < deadline:
            if self.cluster.origin_stats()["read_bytes"] > 0:  # of what is asked for: the origin counts before it answers
                self.first = time.time()

    def last(self) -> float:
        """A small file gets owner, mode and times as soon as its bytes are there; nothing touches it later."""
        self.thread.join()
        changed = [file.stat().st_ctime for node in self.cluster.node_names for file in self.cluster.store(node).rglob("f[0-9]*") if file.is_file()]
        fresh = [when for when in changed if when > self.began]
        if not self.first or len(fresh) < FILES:
            raise RuntimeError(f"of {FILES} files {len(fresh)} were copied")
        return max(fresh)


def percentile(samples: list[float], share: float) -> float:
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def one_job(cluster: Cluster, root: Path, stamp: Path) -> tuple[int, Copy]:
    datasets.small_files(root, FILES, SIZE, seed=hash(root.name) % 100_000)
    copy = Copy(cluster)
    return cluster.submit(f"date +%s.%N >{stamp}", f"--atlas-dataset={root}", "--atlas-warm"), copy


def bench_dead(report: Report, quick: bool) -> None:
    jobs = 4 if quick else 20
    for tuned in (True, False):
        name, goal = ("batch_sched_delay=0", 1) if tuned else ("default scheduler", 3)
        progress(f"dead time, {name}: {jobs} jobs, one after the other")
        cluster = Cluster(Settings(nodes=2, preset="release", default_scheduler=not tuned, origin_bandwidth=str(FILES * SIZE // SECONDS))).up()
        try:
            idle, hidden = [], []
            for number in range(jobs):
                stamp = cluster.state / "jobs" / f"stamp-{number}"
                job, copy = one_job(cluster, cluster.origin / f"dead-{number}", stamp)
                cluster.wait_done(job, 120)
                idle.append(float(stamp.read_text()) - copy.last())
            report.add(f"dead time, {name}, 95% at most", percentile(idle, 0.95), "s", note=f"goal: at most {goal} s", samples=idle)
            for number in range(2 if quick else 5):
                # Both nodes are taken for longer than the warm-up: its job waits for one of them in any case.
                busy = [cluster.submit("sleep 8; date +%s.%N", "--exclusive", "-w", node) for node in cluster.node_names]
                for other in busy:
                    cluster.wait_state(other, "RUNNING")
                job, copy = one_job(cluster, cluster.origin / f"hidden-{number}", cluster.state / "jobs" / f"hidden-{number}")
                cluster.wait_done(job, 120)
                last = copy.last()
                free = min(float(cluster.job_output(other)) for other in busy)
                hidden.append(max(0.0, min(last, free) - copy.first) / max(last - copy.first, 0.001))
            report.add(f"warm-up hidden in queue time, {name}", 100 * sum(hidden) / len(hidden), "%", note="nodes busy for longer than it takes",
                       samples=hidden)
        finally:
            cluster.down()
