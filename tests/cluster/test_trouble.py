"""Daemons are killed, the origin hangs, jobs are cancelled, at any moment: each job runs or ends as asked, none is stuck."""

import json
from pathlib import Path

import pytest

import datasets
from cluster import USERS, Cluster, Settings, wait_for
from datasets import STATE, warm

SETTINGS = Settings(nodes=2, atlas_extra='[warm]\ncontroller_grace = "5s"\n')
KILLED = ["controller", "agent n001", "slurmctld"]


def fresh(cluster: Cluster, name: str, files: int = 60, size: int = 50_000) -> Path:
    root = cluster.origin / name.replace(" ", "-")
    datasets.small_files(root, files, size, seed=len(name))
    return root


def phase(cluster: Cluster, job: int) -> str:
    done = cluster.run("atlasctl", "job", "show", str(job), "--json")
    if done.code != 0:
        return ""
    return json.loads(done.out)["phase"]


def kill(cluster: Cluster, name: str, job: int) -> None:
    """Ends a daemon at once. slurmctld is killed when it has saved the job after its data_in hook: a job that is not
    saved is lost to Slurm, and one that is saved during the hook (of milliseconds) stays "staging-in" until scancel."""
    if name == "slurmctld":
        wait_for(lambda: cluster.job(job).get("BurstBufferState") != "staging-in", 10, "the hook is through")
        saved = cluster.state / "slurmctld" / "job_state"
        before = saved.stat().st_mtime_ns if saved.exists() else 0
        cluster.run("scontrol", "update", f"jobid={job}", "comment=save me").check()
        wait_for(lambda: saved.exists() and saved.stat().st_mtime_ns > before, 30, "slurmctld saves its jobs")
    cluster.kill_daemon(name)


def revive(cluster: Cluster, name: str) -> None:
    cluster.start(name)
    if name == "slurmctld":
        cluster.wait_nodes()


def submit_warm(cluster: Cluster, root: Path, *options: str, first: str = ":") -> int:
    """A job that waits for the dataset and reads all of it, after the command `first`."""
    return cluster.submit(f'{first}; cat {root}/*/* | wc -c; {STATE}', *warm(root), *options)


def check_read(cluster: Cluster, job: int, root: Path, *states: str) -> None:
    out = cluster.job_output(job)
    assert str(60 * 50_000) in out.split(), out
    assert any(f"{root}={state}" in out for state in states), out


@pytest.mark.parametrize("name", KILLED)
def test_killed_before_staging(cluster: Cluster, name: str) -> None:
    root = fresh(cluster, f"before {name}")
    if name == "slurmctld":
        cluster.kill_daemon(name)
        revive(cluster, name)
        job = submit_warm(cluster, root)
    else:
        cluster.kill_daemon(name)
        job = submit_warm(cluster, root, "-w", "n001")
        revive(cluster, name)
    cluster.wait_done(job, 90)
    check_read(cluster, job, root, "complete", "partial", "origin")


@pytest.mark.parametrize("name", KILLED)
def test_killed_during_staging(cluster: Cluster, name: str) -> None:
    root = fresh(cluster, f"during {name}")
    cluster.origin_ctl("bandwidth", "150K")  # 20 s
    job = submit_warm(cluster, root, "-w", "n001")
    wait_for(lambda: phase(cluster, job) == "warming", 20, "the warm-up runs")
    before = cluster.origin_stats()["read_bytes"]
    wait_for(lambda: cluster.origin_stats()["read_bytes"] > before, 20, "bytes are coming")
    kill(cluster, name, job)
    assert phase(cluster, job) == "warming" or name == "controller", "it was killed during the warm-up"
    revive(cluster, name)
    cluster.origin_ctl("bandwidth", "0")
    cluster.wait_done(job, 90)
    check_read(cluster, job, root, "complete")


@pytest.mark.parametrize("name", KILLED)
def test_killed_after_staging_while_the_job_runs(cluster: Cluster, name: str) -> None:
    root = fresh(cluster, f"after {name}")
    go = cluster.state / "jobs" / f"go-{name.split()[0]}"
    job = submit_warm(cluster, root, "-w", "n001", first=f"echo started; until [ -e {go} ]; do sleep 0.1; done")
    wait_for(lambda: "started" in cluster.job_output(job), 60, "the job's script runs")
    cluster.origin_ctl("reset")
    kill(cluster, name, job)
    go.touch()
    if name != "slurmctld":
        cluster.wait_done(job, 60)
        revive(cluster, name)
    else:
        wait_for(lambda: f"{root}=" in cluster.job_output(job), 30, "the job goes on")
        revive(cluster, name)
        cluster.wait_done(job, 60)
    check_read(cluster, job, root, "complete")
    assert cluster.origin_stats()["read_bytes"] == 0
    assert cluster.receipt(job)["receipt"]["outcome"] == "warm"


def test_without_a_controller_a_job_starts_after_the_grace_period(cluster: Cluster) -> None:
    root = fresh(cluster, "no controller")
    cluster.kill_daemon("controller")
    job = submit_warm(cluster, root)
    cluster.wait_done(job, 40)
    check_read(cluster, job, root, "origin")
    cluster.start("controller")


def test_without_an_agent_a_job_runs_on_the_origin(cluster: Cluster) -> None:
    root = fresh(cluster, "no agent")
    for node in cluster.node_names:
        cluster.kill_daemon(f"agent {node}")
    job = submit_warm(cluster, root)
    cluster.wait_done(job, 60)
    check_read(cluster, job, root, "origin")
    for node in cluster.node_names:
        cluster.start_agent(node)


def test_an_agent_that_is_stopped_delays_a_start_by_a_bounded_time(cluster: Cluster) -> None:
    root = fresh(cluster, "stopped agent")
    cluster.wait_done(submit_warm(cluster, root))
    for node in cluster.node_names:
        cluster.signal(f"agent {node}", 19)
    try:
        job = submit_warm(cluster, root)
        cluster.wait_done(job, 60)
        check_read(cluster, job, root, "origin")
    finally:
        for node in cluster.node_names:
            cluster.signal(f"agent {node}", 18)


def test_an_origin_that_hangs_during_attach_does_not_hold_the_job(cluster: Cluster) -> None:
    root = fresh(cluster, "hung")
    first = submit_warm(cluster, root)
    node = cluster.wait_done(first)["NodeList"]
    size = sum(file.stat().st_size for file in root.rglob("*") if file.is_file())
    job = cluster.submit(f'{STATE}; cat "$ATLAS_ROOT/{root.name}"/*/* | wc -c; echo ran', "--hold", "-w", node, *warm(root))
    cluster.origin_ctl("hang")
    try:
        cluster.run("scontrol", "release", str(job)).check()
        cluster.wait_done(job, 60)
        said = cluster.job_output(job)
        assert "ran" in said.splitlines() and str(size) in said.splitlines(), "what is on the node can be read"
        assert f"$ATLAS_ROOT/{root.name} has it from this node all the same" in said
    finally:
        cluster.origin_ctl("resume")


def test_an_origin_that_hangs_at_submit_does_not_hold_the_user(cluster: Cluster) -> None:
    root = fresh(cluster, "hung submit")
    cluster.origin_ctl("hang")
    try:
        done = cluster.run("sbatch", "--parsable", "-o", "/dev/null", f"--atlas-dataset={root}", "--wrap", "echo ran", user=USERS[0],
                           cwd="/tmp", timeout=10).check()
        cluster.wait_done(int(done.out), 60)
    finally:
        cluster.origin_ctl("resume")


def test_an_origin_that_fails_during_the_warm_up_lets_the_job_start_cold(cluster: Cluster) -> None:
    root = fresh(cluster, "failing")
    cluster.origin_ctl("fail", f"{root.name}/*", "read")
    try:
        job = cluster.submit(STATE, *warm(root))
        cluster.wait_done(job, 90)
        assert f"{root}=partial" in cluster.job_output(job), "its files are listed, their bytes fail as at the origin"
    finally:
        cluster.origin_ctl("heal")


def cancel(cluster: Cluster, job: int) -> None:
    cluster.run("scancel", str(job)).check()
    cluster.wait_state(job, "CANCELLED", timeout=30)


def test_scancel_in_every_phase(cluster: Cluster) -> None:
    root = fresh(cluster, "cancelled")
    cluster.origin_ctl("hang", "readdir")
    surveyed = submit_warm(cluster, root)
    wait_for(lambda: cluster.origin_stats()["hanging"] > 0, 20, "the walk hangs")
    cancel(cluster, surveyed)
    cluster.origin_ctl("bandwidth", "300K")  # before: what the cancelled job began may go on for a moment
    cluster.origin_ctl("resume")

    warming = submit_warm(cluster, root)
    wait_for(lambda: phase(cluster, warming) == "warming", 20, "the warm-up runs")
    cancel(cluster, warming)
    cluster.origin_ctl("bandwidth", "0")

    fill = [cluster.submit("sleep 300", "-w", node, "--exclusive") for node in cluster.node_names]
    for job in fill:
        cluster.wait_state(job, "RUNNING")
    ready = submit_warm(cluster, root)
    wait_for(lambda: phase(cluster, ready) in ("ready", "waiting", "queued"), 30, "the data is there, the nodes are not")
    cancel(cluster, ready)
    for job in fill:
        cancel(cluster, job)

    running = submit_warm(cluster, root, first="sleep 300")
    cluster.wait_state(running, "RUNNING")
    cancel(cluster, running)

    held = cluster.submit("true", "--hold", *warm(root))
    cancel(cluster, held)


def test_200_jobs_cancelled_in_a_row_at_changing_moments(cluster: Cluster) -> None:
    root = fresh(cluster, "many cancelled")
    script = cluster.state / "jobs" / "sleep.sh"
    script.write_text("#!/bin/bash\nsleep 100\n")
    cluster.sh(f"""
        for i in $(seq 200); do
          job=$(sbatch --parsable -o /dev/null --atlas-dataset={root} --atlas-warm {script}) || exit 1
          sleep 0.$((i * 7 % 3))$((i % 10))
          scancel $job || exit 1
        done""", user=USERS[0], cwd="/tmp", timeout=240).check()
    wait_for(lambda: cluster.run("squeue", "-h").out == "", 60, "no job is left")
    after = submit_warm(cluster, root)
    cluster.wait_done(after, 60)
    check_read(cluster, after, root, "complete")
