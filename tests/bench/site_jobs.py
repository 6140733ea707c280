"""A site's worth of real slurmds: many jobs wait for their data on many nodes, and every one of them is served and ends."""

import json
import random

import datasets
from cluster import USERS, Cluster, ClusterError, Settings, wait_for
from leaks import leaks, wait_clean
from report import Report, progress, timed

NAME = "site"
# What a job leaves: its number as a name, and what it was shown of its data.
SCRIPT = """#!/bin/bash
find "$1" -type f -exec cat {{}} + >/dev/null || exit 1
echo "$ATLAS_CACHE_STATE" >{done}/$SLURM_JOB_ID
"""


def submit(cluster: Cluster, roots: list, jobs: int) -> set[int]:
    """Jobs of two users over the datasets, some of which many of them read; returns their numbers."""
    done = cluster.state / "jobs" / "done"
    done.mkdir()
    done.chmod(0o777)
    script = cluster.state / "jobs" / "site.sh"
    script.write_text(SCRIPT.format(done=done))
    script.chmod(0o755)
    choose = random.Random(3)
    weights = [1 / (place + 1) for place in range(len(roots))]
    read = roots + choose.choices(roots, weights, k=jobs - len(roots))  # each once at least
    numbers: set[int] = set()
    for user, part in zip(USERS, (read[::2], read[1::2])):
        lines = "\n".join(f"sbatch --parsable -J {NAME} -o /dev/null --atlas-dataset={root} --atlas-warm {script} {root} || exit 1" for root in part)
        numbers |= {int(word) for word in cluster.sh(lines, user=user, cwd="/tmp", timeout=600).check().out.split()}
    return numbers


def queue_is_empty(cluster: Cluster, count: int) -> None:
    def empty() -> bool:
        return cluster.run("squeue", "-h", "-n", NAME).check().out.strip() == ""
    try:
        wait_for(empty, 1800, f"{count} jobs have run", 1)
    except ClusterError as error:
        left = cluster.run("squeue", "-n", NAME, "-o", "%i %T %r %S %N").out
        raise ClusterError(f"{error}\nleft in the queue:\n{left}") from None


def served(cluster: Cluster, numbers: set[int]) -> tuple[dict[str, int], dict[str, str]]:
    """How many had which outcome, and why those that were not warm; fails unless every one has ended well, with a receipt."""
    done = cluster.state / "jobs" / "done"
    if missing := numbers - {int(file.name) for file in done.iterdir()}:
        raise ClusterError(f"{len(missing)} jobs have not run to their end: {sorted(missing)}")
    known = {job["job_id"]: job for job in cluster.atlasctl("job", "list", "--all")}
    outcomes: dict[str, int] = {}
    reasons: dict[str, str] = {}
    for number in numbers:
        job = known.get(number)
        if job is None or job["phase"] != "ended" or not (job.get("receipt") or {}).get("outcome"):
            raise ClusterError(f"job {number} has no receipt: {json.dumps(job)}")
        outcome = job["receipt"]["outcome"]
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        if outcome != "warm":
            reasons[str(number)] = job["receipt"]["reason"]
    return outcomes, reasons


def bench_site(report: Report, quick: bool) -> None:
    nodes, jobs, count, files = (8, 60, 10, 20) if quick else (64, 500, 40, 50)
    cluster = Cluster(Settings(nodes=nodes, preset="release", quota="1G", atlas_extra='[warm]\nmax_idle = "30m"\n')).up()
    try:
        progress(f"{jobs} jobs over {count} datasets on {nodes} nodes")
        roots = [cluster.origin / f"set{number:02d}" for number in range(count)]
        size = sum(datasets.small_files(root, files, 100_000, seed=number) for number, root in enumerate(roots))
        cluster.origin_ctl("reset")
        numbers: set[int] = set()

        def run() -> None:
            numbers.update(submit(cluster, roots, jobs))
            queue_is_empty(cluster, jobs)
        took = timed(run)
        read = cluster.origin_stats()["read_bytes"]
        wait_clean(cluster, 60)
        if drained := cluster.sinfo_R():
            raise ClusterError(f"a node is down or drained: {drained}")
        outcomes, reasons = served(cluster, numbers)
        assert len(numbers) == jobs and not leaks(cluster)
        report.add(f"{jobs} jobs through staging on {nodes} nodes, from the first submit to the last end", took, "s",
                   note=f"all ended, with receipts: {', '.join(f'{n} {what}' for what, n in sorted(outcomes.items()))}; no node drained, no lease left",
                   samples={"outcomes": outcomes, "reasons": reasons})
        report.add("origin bytes read for them", read / 1e6, "MB", against="all datasets", reference=size / 1e6, note="each byte once is 1.00")
    finally:
        cluster.down()
