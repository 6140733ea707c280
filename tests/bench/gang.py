"""Many that want the same: an array of 1,000 tasks against a plain one, and 300 jobs that wait for one dataset."""

import statistics

import datasets
from cluster import USERS, Cluster, Settings, wait_for
from report import Report, pairs, progress, timed

NODES, CPUS = 4, 32


def ended(cluster: Cluster, job: int | str, count: int) -> bool:
    """All of them, and none otherwise than well."""
    which = ["-j", str(job)] if isinstance(job, int) else ["-n", job]
    states = cluster.run("squeue", "-h", "-r", "-t", "all", *which, "-o", "%T").check().out.split()
    if bad := set(states) & {"FAILED", "CANCELLED", "NODE_FAIL", "TIMEOUT"}:
        raise RuntimeError(f"{job}: {bad}")
    return len(states) == count and set(states) == {"COMPLETED"}


def array_time(cluster: Cluster, script: str, tasks: int, *options: str) -> float:
    def run() -> None:
        job = cluster.submit(script, f"--array=1-{tasks}", *options)
        wait_for(lambda: ended(cluster, job, tasks), 600, "all tasks have run", 0.25)
    return timed(run)


def bench_gang(report: Report, quick: bool) -> None:
    tasks, jobs, rounds = (100, 50, 1) if quick else (1000, 300, 2)
    settings = Settings(nodes=NODES, cpus=CPUS, preset="release", atlas_extra='[warm]\nmax_idle = "30m"\n')
    cluster = Cluster(settings).up()
    try:
        progress(f"arrays of {tasks} tasks on {NODES} nodes that hold their data, and plain ones, {rounds} pairs of each kind")
        root = cluster.origin / "array"
        datasets.small_files(root, 100, 20_000)
        for node in cluster.node_names:
            cluster.run("atlasctl", "dataset", "warm", str(root), "--node", node, user=USERS[0], cwd="/tmp").check()
        options = (f"--atlas-dataset={root}", "--atlas-warm")
        for script in ("sleep 5", "true"):
            measured = pairs(lambda: array_time(cluster, script, tasks), lambda: array_time(cluster, script, tasks, *options), rounds)
            plain, ours = (statistics.median(values) for values in zip(*measured))
            report.add(f"{tasks} tasks of an array, '{script}', warm", ours, "s", against="plain array", reference=plain, samples=measured,
                       note="goal: at most 1.1" if script != "true" else "what a start costs, all nodes on this machine's CPUs")

        progress(f"{jobs} jobs that wait for one dataset")
        root = cluster.origin / "many"
        size = datasets.small_files(root, 150, 200_000)
        cluster.origin_ctl("reset")
        cluster.origin_ctl("bandwidth", "500K")
        script = cluster.state / "jobs" / "gang.sh"
        script.write_text("#!/bin/bash\ntrue\n")
        options = f"-Q -J gang -o /dev/null --atlas-dataset={root} --atlas-warm"
        cluster.sh(f"for i in $(seq {jobs}); do sbatch {options} {script} || exit 1; done", user=USERS[0], cwd="/tmp", timeout=300).check()
        cluster.origin_ctl("bandwidth", "0")
        wait_for(lambda: ended(cluster, "gang", jobs), 600, "all jobs have run", 0.5)
        report.add(f"{jobs} jobs that wait for one dataset, origin bytes", cluster.origin_stats()["read_bytes"] / 1e6, "MB", against="its size",
                   reference=size / 1e6, note="goal: at most 1.02")
    finally:
        cluster.down()
