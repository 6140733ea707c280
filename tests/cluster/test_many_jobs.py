"""Many jobs on the same data: the origin is read once, nobody starves, and nothing is stuck."""

import datetime
from pathlib import Path

import datasets
from cluster import USERS, Cluster, Settings, wait_for
from datasets import STATE, warm

# A job is not kept waiting while nodes idle for longer than max_idle: not what is tested here, on a slow machine.
SETTINGS = Settings(nodes=4, cpus=32, atlas_extra='[warm]\nmax_idle = "30m"\n')
FILES, SIZE = 200, 40_000


def fresh(cluster: Cluster, name: str, files: int = FILES, size: int = SIZE) -> tuple[Path, int]:
    root = cluster.origin / name
    return root, datasets.small_files(root, files, size, seed=len(name))


def states(cluster: Cluster, *which: str) -> dict[str, int]:
    """How many jobs (tasks of arrays) are in which state."""
    out = cluster.run("squeue", "-h", "-r", "-t", "all", "-o", "%T", *which).check().out.split()
    return {state: out.count(state) for state in set(out)}


def start_delay(fields: dict[str, str]) -> float:
    submitted, started = (datetime.datetime.fromisoformat(fields[name]) for name in ("SubmitTime", "StartTime"))
    return (started - submitted).total_seconds()


def test_a_job_on_two_nodes_is_staged_once_not_once_per_node_or_task(cluster: Cluster) -> None:
    root, size = fresh(cluster, "two-nodes")
    cluster.origin_ctl("reset")
    job = cluster.submit(f'srun bash -c \'cat {root}/*/* | md5sum; {STATE}\'', "-N2", "--ntasks-per-node=4",
                         *warm(root))
    cluster.wait_done(job, 90)
    stats = cluster.origin_stats()
    lines = [line for line in cluster.job_output(job).splitlines() if not line.startswith("atlas:")]
    assert len(lines) == 16 and len(set(lines)) == 2, lines
    assert f"{root}=complete" in lines
    assert size <= stats["read_bytes"] <= 1.02 * size, "the nodes divide it and copy the rest from each other"
    assert FILES <= stats["ops"]["open"] <= 1.02 * FILES
    assert len(cluster.atlasctl("placement", str(root))) == 2
    batch_only = cluster.submit(STATE, "-N2", *warm(root))
    cluster.wait_done(batch_only)
    receipt = cluster.receipt(batch_only)["receipt"]
    assert receipt["outcome"] == "warm" and receipt["resident_bytes"] == size, "what the node where nothing ran holds is not counted"


def test_an_array_of_200_tasks_is_staged_once(cluster: Cluster) -> None:
    root, size = fresh(cluster, "array")
    cluster.origin_ctl("reset")
    job = cluster.submit(f'f=$((SLURM_ARRAY_TASK_ID - 1)); cat {root}/*/f$(printf %06d $f) | wc -c; {STATE}',
                         "--array=1-200", *warm(root))
    wait_for(lambda: states(cluster, "-j", str(job)) == {"COMPLETED": 200}, 120,
             "all tasks have run", 0.5)
    outputs = [cluster.job_output(f"{job}_{task}") for task in range(1, 201)]
    assert all(str(SIZE) in text.split() for text in outputs)
    # An array is let go as a whole, when all nodes that its tasks can fill hold the data.
    cold = sum(f"{root}=origin" in text or f"{root}=partial" in text for text in outputs)
    assert sum(f"{root}=complete" in text for text in outputs) == 200 - cold
    assert cold == 0, "every task finds its data"
    wait_for(lambda: {r["state"] for r in cluster.atlasctl("placement", str(root))} == {"complete"}, 20, "the cache is full")
    stats = cluster.origin_stats()
    assert size <= stats["read_bytes"] <= 1.02 * size + cold * SIZE
    assert stats["ops"]["open"] <= 1.02 * FILES + cold


def test_300_jobs_wait_for_one_slow_warm_up_and_a_warm_job_starts_at_once(cluster: Cluster) -> None:
    ready, _ = fresh(cluster, "already-warm", 20)
    cluster.wait_done(cluster.submit("true", *warm(ready)))
    slow, size = fresh(cluster, "slow", 100, 300_000)
    cluster.origin_ctl("reset")
    cluster.origin_ctl("bandwidth", "300K")  # 100 s
    try:
        script = cluster.state / "jobs" / "quick.sh"
        script.write_text(f'#!/bin/bash\n{STATE}\n')
        # The slow copy goes to the node of the warm one if the controller likes it so: the check of what is warm does not wait behind it.
        options = f"-Q -J many -o {script.parent}/many-%j.out --atlas-dataset={slow} --atlas-warm"
        cluster.sh(f"for i in $(seq 300); do sbatch {options} {script} || exit 1; done", user=USERS[0], cwd="/tmp", timeout=120).check()
        assert states(cluster, "-n", "many").get("PENDING") == 300, "the warm-up takes longer than submitting"
        unrelated = cluster.submit("true", *warm(ready), user=USERS[1])
        fields = cluster.wait_done(unrelated, 30)
        assert start_delay(fields) <= 10
        assert cluster.receipt(unrelated)["receipt"]["outcome"] == "warm"
        assert states(cluster, "-n", "many").get("PENDING") == 300, "the unrelated job did not have to wait for the others"
    finally:
        cluster.origin_ctl("bandwidth", "0")
    wait_for(lambda: states(cluster, "-n", "many") == {"COMPLETED": 300}, 180, "all 300 jobs have run", 0.5)
    outputs = [file.read_text() for file in script.parent.glob("many-*.out")]
    assert len(outputs) == 300
    assert [text for text in outputs if f"{slow}=complete" not in text] == [], "they waited for the data and got it"
    assert cluster.origin_stats()["read_bytes"] <= 1.02 * size, "whichever nodes they waited for"


def test_jobs_of_two_users_on_one_dataset_share_one_transfer(cluster: Cluster) -> None:
    root, size = fresh(cluster, "shared", 40, 100_000)
    cluster.origin_ctl("reset")
    cluster.origin_ctl("bandwidth", "2M")
    try:
        jobs = [cluster.submit(STATE, *warm(root), user=user) for user in USERS * 2]
        nodes = {cluster.wait_done(job, 90)["NodeList"] for job in jobs}
    finally:
        cluster.origin_ctl("bandwidth", "0")
    assert all(f"{root}=complete" in cluster.job_output(job) for job in jobs)
    # Once for each node at most: the second may have it from the first.
    assert cluster.origin_stats()["read_bytes"] in [size * times for times in range(1, len(nodes) + 1)]
    assert len(nodes) == 1, "they fit on the node that holds the data"


def test_a_job_bound_to_a_node_by_its_user_gets_its_data_there(cluster: Cluster) -> None:
    root, _ = fresh(cluster, "bound", 20)
    first = cluster.submit("true", *warm(root))
    holder = cluster.wait_done(first)["NodeList"]
    other = next(node for node in cluster.node_names if node != holder)
    job = cluster.submit(STATE, "-w", other, *warm(root))
    assert cluster.wait_done(job)["NodeList"] == other
    assert f"{root}=complete" in cluster.job_output(job)
