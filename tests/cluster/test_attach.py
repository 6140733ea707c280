"""What a job finds at its dataset's path: on a real cluster with agents, warm data and everything that can go wrong."""

import os
import re
import signal
from pathlib import Path

import pytest

from cluster import USERS, Cluster, Settings, wait_for

SETTINGS = Settings(nodes=2, slurm_extra="ProctrackType=proctrack/cgroup\nUnkillableStepTimeout=15",
                    atlas_extra='[disk]\nread = "8G"\nscratch = ["/proc"]')
BLKIO = Path("/sys/fs/cgroup/blkio")
# Whether the dataset's path is a mount point of its own here, and which namespace this is.
LOOK_SCRIPT = """#!/bin/sh
echo "$(hostname) mounts=$(awk -v p="$DATA" '$5 == p' /proc/self/mountinfo | wc -l) ns=$(readlink /proc/self/ns/mnt)"
"""


def look(cluster: Cluster) -> Path:
    file = cluster.state / "look.sh"
    file.write_text(LOOK_SCRIPT)
    file.chmod(0o755)
    return file


@pytest.fixture(scope="module")
def data(cluster: Cluster) -> Path:
    """A dataset that every node holds."""
    directory = cluster.origin / "speech"
    directory.mkdir()
    for i in range(20):
        (directory / f"{i}.wav").write_bytes(os.urandom(20_000))
    for node in cluster.node_names:
        warm(cluster, directory, node)
    return directory


def warm(cluster: Cluster, directory: Path, node: str) -> None:
    job = cluster.submit("true", f"--atlas-dataset={directory}", "--atlas-warm", "-w", node)
    cluster.wait_done(job, timeout=120)
    job = run(cluster, directory, "-w", node)
    assert "mounts=1" in cluster.job_output(job), f"{node} does not hold it: {cluster.job_output(job)}"


def submit(cluster: Cluster, directory: Path, *options: str, script: str = "$LOOK", **how: object) -> int:
    return cluster.submit(f"export DATA={directory} LOOK={look(cluster)}\n{script}", f"--atlas-dataset={directory}", *options, **how)


def run(cluster: Cluster, directory: Path, *options: str, script: str = "$LOOK", **how: object) -> int:
    job = submit(cluster, directory, *options, script=script, **how)
    cluster.wait_done(job, timeout=120)
    return job


def pins(cluster: Cluster) -> list[str]:
    return [f"{node}: {mount}" for node in cluster.node_names for mount in cluster.mounts(node)
            if re.fullmatch(r"/run/atlas/ns/[0-9.]+", mount)]


@pytest.fixture(autouse=True)
def nothing_stays(cluster: Cluster):
    yield
    wait_for(lambda: not pins(cluster), 30, "no namespace is kept after the jobs", 0.2)


def test_a_job_reads_from_its_node_and_is_told_so(cluster: Cluster, data: Path) -> None:
    cluster.origin_ctl("reset")
    job = run(cluster, data, script="$LOOK; cat $DATA/*.wav | wc -c; echo state=$ATLAS_CACHE_STATE; pwd")
    output = cluster.job_output(job)
    assert output.startswith(f"atlas: {data} from this node (complete, ")
    assert "mounts=1" in output and "400000" in output
    assert f"state={data}=complete" in output
    assert output.endswith("\n/tmp\n")
    assert cluster.origin_stats()["read_bytes"] == 0


def test_all_tasks_and_steps_of_a_job_share_one_namespace_per_node(cluster: Cluster, data: Path) -> None:
    job = run(cluster, data, "-N2", "-n8", script=f"$LOOK\nsrun $LOOK\nsrun -n4 $LOOK")
    lines = [line for line in cluster.job_output(job).splitlines() if "mounts=" in line]
    assert len(lines) == 13
    assert all("mounts=1" in line for line in lines)
    for node in cluster.node_names:
        assert len({line.split("ns=")[1] for line in lines if line.startswith(node)}) == 1
    assert cluster.job_output(job).count("atlas: ") == 1


def test_steps_of_srun_and_salloc_see_it_too(cluster: Cluster, data: Path) -> None:
    for command in (["srun"], ["salloc", "-Q", "srun"]):
        done = cluster.run(command[0], f"--atlas-dataset={data}", *command[1:], look(cluster), user=USERS[0],
                           cwd=str(data), env={"DATA": str(data)}).check()
        assert "mounts=1" in done.out
        assert f"atlas: {data} from this node" in done.err


@pytest.mark.skipif(not (BLKIO / "blkio.throttle.read_bps_device").exists(), reason="no blkio of cgroup v1 here")
def test_all_of_a_job_is_within_its_limit_on_the_nodes_disks(cluster: Cluster, data: Path) -> None:
    node = cluster.node_names[0]
    job = run(cluster, data, "-w", node, script="grep blkio: /proc/self/cgroup; srun grep blkio: /proc/self/cgroup; "
              f"cat {BLKIO}/atlas/{node}/job_$SLURM_JOB_ID/blkio.throttle.read_bps_device")
    batch, step, limit = cluster.job_output(job).splitlines()[-3:]
    assert batch.endswith(f"/atlas/{node}/job_{job}") and step == batch
    assert limit.split()[1] == str(8 << 30)
    wait_for(lambda: not (BLKIO / f"atlas/{node}/job_{job}").exists(), 30, "its cgroup goes")
    wait_for(lambda: "/proc is on no disk" in cluster.run("atlasctl", "doctor").out, 30, "doctor says what cannot be done")


def test_the_working_directory_may_lie_in_the_dataset(cluster: Cluster, data: Path) -> None:
    job = run(cluster, data, script="pwd; ls | wc -l; stat -c %d . $DATA | uniq | wc -l", cwd=data)
    assert cluster.job_output(job).splitlines()[-3:] == [str(data), "20", "1"]


def test_the_mount_cannot_be_written_and_gives_no_rights(cluster: Cluster, data: Path) -> None:
    job = run(cluster, data, script="touch $DATA/new 2>&1; grep -o ' ro,[a-z,]*' /proc/self/mountinfo | grep nosuid,nodev | head -1")
    assert "Read-only file system" in cluster.job_output(job)
    assert "nosuid,nodev" in cluster.job_output(job)


def test_quiet_jobs_hear_nothing(cluster: Cluster, data: Path) -> None:
    job = run(cluster, data, env={"ATLAS_QUIET": "1"})
    assert "atlas: " not in cluster.job_output(job) and "mounts=1" in cluster.job_output(job)


def test_nobody_else_on_the_node_sees_the_mount(cluster: Cluster, data: Path) -> None:
    job = submit(cluster, data, "-w", "n001", script="touch $DATA/../started-$SLURM_JOB_ID; sleep 30")
    wait_for(lambda: pins(cluster), 30, "the job's namespace")
    other = cluster.submit(f"export DATA={data}\n{look(cluster)}", "-w", "n001", user=USERS[1])
    cluster.wait_done(other)
    assert "mounts=0" in cluster.job_output(other)
    done = cluster.run("atlas-enter", str(job), look(cluster), node="n001", env={"DATA": str(data)}).check()
    assert "mounts=1" in done.out
    refused = cluster.run("atlas-enter", str(job), "true", node="n001", user=USERS[0])
    assert refused.code != 0 and "only root" in refused.err
    cluster.run("scancel", str(job)).check()
    cluster.wait_done(job, expect="CANCELLED")


def test_a_symlink_swapped_after_the_submit_covers_nothing(cluster: Cluster, data: Path) -> None:
    project, victim = cluster.origin / "project", cluster.origin / "victim"
    for directory in (project / "set", victim / "set"):
        directory.mkdir(parents=True)
        (directory / "file").write_text(directory.parent.name + "\n")
    warm(cluster, project / "set", "n001")
    blocker = cluster.submit("sleep 60", "-w", "n001", "--exclusive")
    cluster.wait_state(blocker, "RUNNING")
    job = submit(cluster, project / "set", "-w", "n001", script=f"$LOOK; cat {victim}/set/file; mount | grep -c {victim}")
    project.rename(cluster.origin / "was")
    project.symlink_to("victim")
    cluster.run("scancel", str(blocker)).check()
    cluster.wait_done(job, timeout=120, expect="FAILED")  # grep -c finds none
    output = cluster.job_output(job)
    assert "from the origin: " in output and "mounts=0" in output
    assert output.splitlines()[-2:] == ["victim", "0"]


def test_a_directory_closed_after_the_submit_keeps_the_job_out(cluster: Cluster, data: Path) -> None:
    closed = cluster.origin / "closing"
    (closed / "set").mkdir(parents=True)
    (closed / "set/file").write_text("x")
    warm(cluster, closed / "set", "n001")
    blocker = cluster.submit("sleep 60", "-w", "n001", "--exclusive")
    cluster.wait_state(blocker, "RUNNING")
    job = submit(cluster, closed / "set", "-w", "n001", script=f"$LOOK; cat $DATA/file")
    closed.chmod(0o700)
    cluster.run("scancel", str(blocker)).check()
    cluster.wait_done(job, timeout=120, expect="FAILED")
    output = cluster.job_output(job)
    assert "mounts=0" in output and "Permission denied" in output


def test_without_the_agent_a_job_runs_on_the_origin_at_once(cluster: Cluster, data: Path) -> None:
    cluster.stop("agent n001")
    try:
        job = run(cluster, data, "-w", "n001", script=f"$LOOK; cat $DATA/0.wav | wc -c; echo state=$ATLAS_CACHE_STATE")
        output = cluster.job_output(job)
        assert "atlas: the job reads from the origin: " in output and "is atlas-cache-agent running?" in output
        assert "mounts=0" in output and "20000" in output and f"state={data}=origin" in output
    finally:
        cluster.start_agent("n001")


def test_an_agent_that_hangs_costs_a_step_a_bounded_time(cluster: Cluster, data: Path) -> None:
    go = cluster.state / "jobs" / "go"
    script = f"$LOOK; while [ ! -e {go} ]; do sleep 0.1; done; SECONDS=0; srun $LOOK; echo late=$SECONDS"
    job = submit(cluster, data, "-w", "n001", script=script)
    wait_for(lambda: "mounts=1" in cluster.job_output(job), 60, "the job looks")
    cluster.signal("agent n001", signal.SIGSTOP)
    try:
        go.touch()
        cluster.wait_done(job)
    finally:
        go.unlink()
        cluster.signal("agent n001", signal.SIGCONT)
    output = cluster.job_output(job)
    assert 4 <= int(re.search(r"late=(\d+)", output).group(1)) <= 20, "bounded; the machine may be slow"


def test_a_running_job_keeps_its_view_over_a_restart_of_the_agent(cluster: Cluster, data: Path) -> None:
    go = cluster.state / "jobs" / "go"
    job = submit(cluster, data, "-w", "n001", script=f"$LOOK; while [ ! -e {go} ]; do sleep 0.1; done; srun $LOOK")
    wait_for(lambda: "mounts=1" in cluster.job_output(job), 60, "the job looks")
    cluster.kill_daemon("agent n001")
    cluster.start_agent("n001")
    go.touch()
    cluster.wait_done(job)
    go.unlink()
    lines = [line for line in cluster.job_output(job).splitlines() if "mounts=" in line]
    assert len(lines) == 2 and lines[0] == lines[1], "the same namespace"


def test_a_hung_origin_delays_a_start_and_drains_nothing(cluster: Cluster, data: Path) -> None:
    blocker = cluster.submit("sleep 60", "-w", "n001", "--exclusive")
    cluster.wait_state(blocker, "RUNNING")
    job = submit(cluster, data, "-w", "n001", script=f"echo state=$ATLAS_CACHE_STATE; $LOOK")
    cluster.origin_ctl("hang")
    try:
        cluster.run("scancel", str(blocker)).check()
        cluster.wait_done(job, timeout=60)
        output = cluster.job_output(job)
        assert f"{data} from the origin: its origin did not list its files in time" in output
        assert f"state={data}=origin" in output
        # The job's processes are gone although a child of the helper still hangs: no UnkillableStepTimeout.
        wait_for(lambda: cluster.job(job)["JobState"] == "COMPLETED", 20)
        assert cluster.sinfo_R() == ""
    finally:
        cluster.origin_ctl("resume")


def test_a_forged_request_finds_nothing(cluster: Cluster, data: Path) -> None:
    job = cluster.submit(f"export DATA={data} SLURM_SPANK_ATLAS_REQ=v1,d={data}; srun {look(cluster)}")
    cluster.wait_done(job)
    assert "mounts=0" in cluster.job_output(job)
    assert "atlas: " not in cluster.job_output(job)
