"""The agent of a node is killed, stopped or cannot die while a job reads through it: the job goes on with the next one, or gets errors
in bounded time; Slurm never loses the node."""

import signal
import time

import pytest

import datasets
from cluster import Cluster, Settings, wait_for
from datasets import STATE
from test_read_through import expected, hashes, said

# Slurm drains a node where a process outlives SIGKILL for so long.
UNKILLABLE = 20
SETTINGS = Settings(nodes=1, slurm_extra=f"UnkillableStepTimeout={UNKILLABLE}",
                    agent_extra='read_deadline = "8s"\ntakeover_deadline = "6s"')
AGENT, NODE = "agent n001", "n001"
SLOTS = {"ATLAS_TEST_SLOTS": "1"}


@pytest.mark.parametrize("kernel", ["repeats", "slots"])
def test_a_job_does_not_notice_that_its_agent_is_killed(cluster: Cluster, kernel: str) -> None:
    root = cluster.origin / f"killed-{kernel}"
    datasets.small_files(root, 150, 100_000, seed=21)
    datasets.big_file(root / "big", 20_000_000)
    env = SLOTS if kernel == "slots" else {}
    cluster.stop(AGENT)
    cluster.start(AGENT, env=env)
    cluster.wait_agents()
    cluster.origin_ctl("bandwidth", "2M")
    try:
        job = cluster.submit(f'{STATE}; {hashes(root)}; {hashes(root)}', f"--atlas-dataset={root}", f"--atlas-cache={10_000_000}")
        wait_for(lambda: f"{root}=partial" in cluster.job_output(job), 30, "the job has begun")

        def takeovers() -> int:
            return cluster.log_tail(AGENT, 100_000).count("took over 1 connections")

        for before in range(takeovers(), takeovers() + 5):
            wait_for(lambda: [view for view in cluster.kept_views(NODE) if view.split()[1] != "0"], 30, "the job waits for a read")
            cluster.kill_daemon(AGENT)
            begin = time.monotonic()
            cluster.start(AGENT, env=env)
            wait_for(lambda: takeovers() > before, 20, "a new agent goes on")
            print(f"taken over after {time.monotonic() - begin:.2f} s")
        cluster.origin_ctl("bandwidth", "0")
        cluster.wait_done(job, 90)
    finally:
        cluster.origin_ctl("bandwidth", "0")
        cluster.restart(AGENT)
        cluster.wait_agents()
    assert said(cluster, job) == [f"{root}=partial", *expected(root), *expected(root)]
    assert cluster.receipt(job)["receipt"]["outcome"] == "partial"
    wait_for(lambda: cluster.kept_views(NODE) == [], 20, "nothing is kept of it")


# Without the kernel's read-ahead a process waits for its own request, and cannot be killed while it does.
READ = "import os, sys; fd = os.open(sys.argv[1], os.O_RDONLY); os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM); os.read(fd, 1)"


def reading_job(cluster: Cluster, name: str) -> int:
    """A job that waits for a read of its data, as deep in the kernel as can be."""
    root = cluster.origin / name
    datasets.small_files(root, 10, 100_000, seed=22)
    file = root / "d0000" / "f000003"
    cluster.origin_ctl("hang", "--path", f"*{name}/d0000/f000003", "open", "read")
    job = cluster.submit(f"{STATE}; python3 -c '{READ}' {file}", f"--atlas-dataset={root}")
    wait_for(lambda: [view for view in cluster.kept_views(NODE) if view.split()[1] != "0"], 30, "the job waits for its read")
    wait_for(lambda: cluster.origin_stats()["hanging"], 30, "the origin hangs")
    assert f"{root}=partial" in cluster.job_output(job)
    return job


def cancel(cluster: Cluster, job: int) -> None:
    """Nothing of the job is left before Slurm gives the node up, neither for Slurm nor in the kernel."""
    cluster.run("scancel", "--signal=KILL", str(job)).check()
    cluster.run("scancel", str(job))
    cluster.wait_state(job, "CANCELLED", timeout=60)
    wait_for(lambda: cluster.kept_views(NODE) == [], UNKILLABLE, "the holder ends what nobody answers")
    wait_for(lambda: not [line for line in cluster.processes("python3") if "POSIX_FADV_RANDOM" in line], 5, "its process is gone")
    wait_for(lambda: cluster.run("squeue", "-h", "-j", str(job)).out.strip() == "", 60, "the job is gone")


def test_scancel_while_the_agent_is_stopped(cluster: Cluster) -> None:
    try:
        job = reading_job(cluster, "stopped")
        cluster.signal(AGENT, signal.SIGSTOP)
        cancel(cluster, job)
    finally:
        cluster.origin_ctl("resume")
        cluster.signal(AGENT, signal.SIGCONT)
    assert cluster.sinfo_R() == ""


def test_scancel_while_the_agent_is_dead_and_held_by_a_hung_origin(cluster: Cluster) -> None:
    """Its threads wait for the origin where not even SIGKILL reaches them: the process keeps the connection's device."""
    try:
        job = reading_job(cluster, "undead")
        cluster.signal(AGENT, signal.SIGKILL)
        cancel(cluster, job)
        assert cluster.running(AGENT), "it could have been reaped: this test proves nothing"
    finally:
        cluster.origin_ctl("resume")
        wait_for(lambda: not cluster.running(AGENT), 30, "the agent dies")
        cluster.start(AGENT)
        cluster.wait_agents()
    assert cluster.sinfo_R() == ""
