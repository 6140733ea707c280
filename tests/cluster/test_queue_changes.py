"""What Slurm, its users and its admins do to jobs and nodes while Atlas stages: each job runs or ends as asked, and nothing stays behind."""

import datetime
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import datasets
from cluster import USERS, Cluster, Settings, wait_for
from datasets import STATE, warm

# A job is not kept waiting while nodes idle for longer than max_idle: not what is tested here, on a slow machine.
SETTINGS = Settings(nodes=4, slurm_extra="""PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=right Nodes=n003,n004
PartitionName=urgent Nodes=ALL PriorityTier=10
""", atlas_extra='[warm]\nmax_idle = "30m"\ncontroller_grace = "5s"\n')
FIRST, SECOND = USERS
FILES, SIZE = 40, 25_000


def fresh(cluster: Cluster, name: str, files: int = FILES) -> Path:
    root = cluster.origin / name
    datasets.small_files(root, files, SIZE, seed=len(name))
    return root


@pytest.fixture
def slow(cluster: Cluster) -> Iterator[None]:
    """An origin that gives 100 kB/s: a dataset is not there before the test lets it."""
    cluster.origin_ctl("reset")
    cluster.origin_ctl("bandwidth", "100K")
    yield
    cluster.origin_ctl("bandwidth", "0")


def shown(cluster: Cluster, job: int | str) -> dict:
    done = cluster.run("atlasctl", "job", "show", str(job), "--json")
    return json.loads(done.out) if done.code == 0 else {}


def warming(cluster: Cluster, job: int) -> list[str]:
    """Waits until the job's data is on its way; to these nodes."""
    wait_for(lambda: shown(cluster, job).get("phase") == "warming", 30, f"the data of job {job} is on its way")
    return cluster.run("scontrol", "show", "hostnames", shown(cluster, job)["nodes"]).check().out.split()


def update(cluster: Cluster, job: int | str, *changes: str, user: str | None = FIRST) -> None:
    cluster.run("scontrol", "update", f"jobid={job}", *changes, user=user).check()


def go(cluster: Cluster, job: int) -> None:
    """A requeued job has to wait for two minutes, says Slurm; its user need not agree. But slurmd refuses to launch it where
    it was killed in the same second ("already killed, do not launch batch job"), and Slurm takes it for failed then."""
    wait_for(lambda: cluster.job(job).get("JobState") == "PENDING", 30, f"job {job} is in the queue again", 0.2)
    killed = time.time()
    wait_for(lambda: time.time() > killed + 2, 10, "another second has begun on all nodes")

    def begun() -> bool:
        cluster.run("scontrol", "update", f"jobid={job}", "starttime=now", user=FIRST)
        return cluster.job(job).get("JobState") in ("RUNNING", "COMPLETING", "COMPLETED")
    wait_for(begun, 60, f"job {job} starts again", 0.5)


def waiting_for_go(cluster: Cluster, name: str) -> tuple[Path, str]:
    """A file, and the command that waits for it and says when it began."""
    file = cluster.state / "jobs" / name
    return file, f"echo began; until [ -e {file} ]; do sleep 0.1; done"


def set_node(cluster: Cluster, node: str, state: str) -> None:
    cluster.run("scontrol", "update", f"nodename={node}", f"state={state}", "reason=test").check()


def seconds(text: str) -> float:
    return datetime.datetime.fromisoformat(text).timestamp()


# ---- users --------------------------------------------------------------------------------------------------------------


def test_what_a_user_changes_while_his_data_is_on_its_way_is_his(cluster: Cluster, slow: None) -> None:
    roots = {name: fresh(cluster, f"user-{name}") for name in ("nodelist", "partition", "begin", "rest")}
    jobs = {name: cluster.submit(STATE, *warm(root)) for name, root in roots.items()}
    at = {name: warming(cluster, job) for name, job in jobs.items()}
    other = next(node for node in cluster.node_names if node not in at["nodelist"])
    update(cluster, jobs["nodelist"], f"reqnodelist={other}")
    update(cluster, jobs["partition"], "partition=right")
    own = int(time.time()) + 20
    update(cluster, jobs["begin"], f"starttime={datetime.datetime.fromtimestamp(own).isoformat()}")
    update(cluster, jobs["rest"], "timelimit=7", "comment=mine", "jobname=renamed")
    wait_for(lambda: warming(cluster, jobs["nodelist"]) == [other], 20, "the data goes to the node that he named")
    wait_for(lambda: set(warming(cluster, jobs["partition"])) <= {"n003", "n004"}, 20, "the data goes to the other partition")
    cluster.origin_ctl("bandwidth", "0")
    ended = {name: cluster.wait_done(job, 90) for name, job in jobs.items()}
    assert ended["nodelist"]["NodeList"] == other
    assert ended["partition"]["Partition"] == "right" and ended["partition"]["NodeList"] in ("n003", "n004")
    assert seconds(ended["begin"]["StartTime"]) >= own
    assert (ended["rest"]["TimeLimit"], ended["rest"]["Comment"], ended["rest"]["JobName"]) == ("00:07:00", "mine", "renamed")
    for name, job in jobs.items():
        assert f"{roots[name]}=complete" in cluster.job_output(job), name


def test_a_job_that_waits_for_its_node_may_be_moved_to_another_partition(cluster: Cluster) -> None:
    root = fresh(cluster, "moved")
    cluster.run("atlasctl", "dataset", "warm", str(root), "--node", "n001", user=FIRST, cwd="/tmp").check()
    file, command = waiting_for_go(cluster, "busy")
    busy = cluster.submit(command, "-w", "n001", "--exclusive")
    cluster.wait_state(busy, "RUNNING")
    job = cluster.submit(STATE, *warm(root))
    wait_for(lambda: cluster.job(job).get("ReqNodeList") == "n001" or cluster.job_state(job) == "COMPLETED", 30, "it is pinned, or ran")
    if cluster.job_state(job) == "PENDING":
        update(cluster, job, "partition=right")
        assert cluster.wait_done(job)["NodeList"] in ("n003", "n004")
    file.touch()
    cluster.wait_done(busy)
    cluster.wait_done(job)
    assert f"{root}=complete" in cluster.job_output(job)


def test_hold_and_release_while_the_data_is_on_its_way(cluster: Cluster, slow: None) -> None:
    root = fresh(cluster, "held")
    job = cluster.submit(STATE, *warm(root))
    warming(cluster, job)
    cluster.run("scontrol", "hold", str(job), user=FIRST).check()
    cluster.origin_ctl("bandwidth", "0")
    later = cluster.submit(STATE, *warm(root))
    cluster.wait_done(later)
    assert (cluster.job_state(job), cluster.job(job)["Priority"]) == ("PENDING", "0"), "nobody but its user lets it go"
    cluster.run("scontrol", "release", str(job), user=FIRST).check()
    cluster.wait_done(job)
    assert f"{root}=complete" in cluster.job_output(job)


def test_a_requeued_job_does_not_wait_again(cluster: Cluster) -> None:
    root = fresh(cluster, "requeued")
    file, command = waiting_for_go(cluster, "requeue")
    job = cluster.submit(f"{command}; {STATE}", "--open-mode=append", *warm(root))
    wait_for(lambda: "began" in cluster.job_output(job), 60, "it runs")
    first = cluster.job(job)["NodeList"]
    cluster.origin_ctl("bandwidth", "100K")
    try:
        # Its data is another one by the time it comes back: it would have to wait for ten seconds.
        (root / "more").write_bytes(os.urandom(1_000_000))
        cluster.run("scontrol", "requeue", str(job), user=FIRST).check()
        wait_for(lambda: cluster.job_state(job) == "PENDING", 30, "it is in the queue again", 0.2)
        go(cluster, job)
        assert cluster.job(job)["Restarts"] == "1"
        wait_for(lambda: cluster.job_output(job).count("began") == 2, 20, "it runs without its data")
    finally:
        cluster.origin_ctl("bandwidth", "0")
    file.touch()
    cluster.wait_done(job)
    assert first and re.search(rf"{root}=(partial|origin|complete)", cluster.job_output(job))
    assert cluster.receipt(job)["receipt"]["waited"] < 2


def test_a_preempted_job_starts_again_where_its_data_is(cluster: Cluster) -> None:
    root = fresh(cluster, "preempted")
    file, command = waiting_for_go(cluster, "preempt")
    job = cluster.submit(f"{command}; {STATE}", "--exclusive", "-w", "n001", "--requeue", "--open-mode=append", *warm(root))
    wait_for(lambda: "began" in cluster.job_output(job), 60, "it runs")
    urgent = cluster.submit(STATE, "--exclusive", "-w", "n001", "-p", "urgent", *warm(root), user=SECOND)
    cluster.wait_done(urgent, 60)
    assert f"{root}=complete" in cluster.job_output(urgent)
    go(cluster, job)
    assert cluster.job(job)["Restarts"] == "1"
    file.touch()
    cluster.wait_done(job)
    assert f"{root}=complete" in cluster.job_output(job)


def test_scancel_before_the_start_and_at_the_end(cluster: Cluster) -> None:
    """The other phases: test_trouble."""
    root = fresh(cluster, "pre-run")
    cluster.wait_done(cluster.submit("true", "-w", "n001", *warm(root)))
    cluster.signal("agent n001", 19)  # pre_run waits for its answer
    try:
        configuring = cluster.submit("true", "-w", "n001", f"--atlas-dataset={root}")
        wait_for(lambda: cluster.job_state(configuring) in ("CONFIGURING", "RUNNING"), 30, "it has its node")
        cluster.run("scancel", str(configuring)).check()
        cluster.wait_state(configuring, "CANCELLED", timeout=40)
    finally:
        cluster.signal("agent n001", 18)
    # Ends when it is killed, two seconds after it was asked to.
    stubborn = cluster.submit("trap '' TERM; echo began; sleep 100 & wait; sleep 100", "-w", "n001", *warm(root))
    wait_for(lambda: "began" in cluster.job_output(stubborn), 60, "it runs")
    cluster.run("scancel", str(stubborn)).check()
    wait_for(lambda: cluster.job_state(stubborn) in ("COMPLETING", "CANCELLED"), 20, "it is on its way out")
    cluster.run("scancel", str(stubborn))
    cluster.wait_state(stubborn, "CANCELLED", timeout=40)


def test_arrays_are_cancelled_whole_and_in_part_while_they_wait(cluster: Cluster, slow: None) -> None:
    root, other = fresh(cluster, "array"), fresh(cluster, "array-two")
    whole = cluster.submit("true", "--array=1-20", *warm(root))
    part = cluster.submit(STATE, "--array=1-4", *warm(other))
    for job in (whole, part):
        warming(cluster, job)
    cluster.run("scancel", str(whole), user=FIRST).check()
    cluster.run("scancel", f"{part}_2", user=FIRST).check()
    cluster.origin_ctl("bandwidth", "0")
    for task in (1, 3, 4):
        cluster.wait_done(f"{part}_{task}", 90)
        assert f"{other}=complete" in cluster.job_output(f"{part}_{task}")
    assert cluster.job_output(f"{part}_2") == ""
    wait_for(lambda: cluster.run("squeue", "-h").out == "", 30, "no task is left")


def test_components_of_a_heterogeneous_job_have_each_their_own_data(cluster: Cluster) -> None:
    left, right = fresh(cluster, "het-left"), fresh(cluster, "het-right")
    for node in cluster.node_names:
        for root in (left, right):
            cluster.run("atlasctl", "dataset", "warm", str(root), "--node", node, user=FIRST, cwd="/tmp").check()
    look = f"srun --het-group=0 bash -c 'echo 0 $ATLAS_CACHE_STATE; cat {left}/*/* | wc -c'; srun --het-group=1 bash -c 'echo 1 $ATLAS_CACHE_STATE; cat {right}/*/* | wc -c'"
    script = cluster.state / "jobs" / "het.sh"
    script.write_text(f"#!/bin/bash\n#SBATCH -n1 --atlas-dataset={left}\n#SBATCH hetjob\n#SBATCH -n1 --atlas-dataset={right} --atlas-warm\n{look}\n")
    script.chmod(0o755)
    out = cluster.state / "jobs" / "het.out"
    done = cluster.run("sbatch", "--parsable", "-o", str(out), str(script), user=FIRST, cwd="/tmp").check()
    cluster.wait_done(int(done.out.split(";")[0]), 60)
    allocated = cluster.run("salloc", "-n1", f"--atlas-dataset={left}", ":", "-n1", f"--atlas-dataset={right}", "bash", "-c", look,
                            user=FIRST, cwd="/tmp").check()
    for text in (out.read_text(), allocated.out):
        assert text.split().count(str(FILES * SIZE)) == 2, text
        # Slurm itself hands SPANK options of a component on to those after it: the second has both.
        assert re.search(rf"0 {left}=complete$", text, re.M) and re.search(rf"^1 .*{right}=complete", text, re.M), text


# ---- slurmctld ----------------------------------------------------------------------------------------------------------


def saved(cluster: Cluster) -> None:
    """Waits until slurmctld has written its jobs as they are now: what is not saved is lost in a crash."""
    state = cluster.state / "slurmctld" / "job_state"
    before = state.stat().st_mtime_ns if state.exists() else 0
    job = cluster.run("squeue", "-h", "-o", "%A").check().out.split()[0]
    update(cluster, job, "jobname=saved", user=None)
    wait_for(lambda: state.exists() and state.stat().st_mtime_ns > before, 30, "slurmctld saves its jobs")


@pytest.mark.parametrize("how", ["stopped", "killed", "reconfigured"])
def test_slurmctld_while_50_jobs_are_staged(cluster: Cluster, slow: None, how: str) -> None:
    root = fresh(cluster, f"fifty-{how}")
    out = cluster.state / "jobs"
    script = out / "fifty.sh"
    script.write_text(f"#!/bin/bash\n{STATE}\n")
    options = f"-Q -J fifty -o {out}/fifty-{how}-%j.out --atlas-dataset={root} --atlas-warm"
    cluster.sh(f"for i in $(seq 50); do sbatch {options} {script} || exit 1; done", user=FIRST, cwd="/tmp", timeout=120).check()
    jobs = cluster.run("squeue", "-h", "-o", "%A").check().out.split()
    assert len(jobs) == 50

    def staged() -> bool:
        text = cluster.run("scontrol", "-o", "show", "job").out
        return text.count("BurstBufferState=staged-in") >= 50 and "staging-in" not in text
    wait_for(staged, 60, "all hooks are through", 0.5)
    if how == "reconfigured":
        cluster.run("scontrol", "reconfigure").check()
    else:
        saved(cluster)
        (cluster.stop if how == "stopped" else cluster.kill_daemon)("slurmctld")
        cluster.start("slurmctld")
        cluster.wait_nodes()
    assert set(cluster.run("squeue", "-h", "-t", "PENDING", "-o", "%A").check().out.split()) == set(jobs), "they wait on"
    cluster.origin_ctl("bandwidth", "0")
    wait_for(lambda: cluster.run("squeue", "-h").out == "", 120, "all have run", 0.5)
    texts = [file.read_text() for file in out.glob(f"fifty-{how}-*.out")]
    assert len(texts) == 50
    assert [text for text in texts if f"{root}=complete" not in text] == []
    assert cluster.origin_stats()["read_bytes"] <= 1.02 * FILES * SIZE


# ---- nodes --------------------------------------------------------------------------------------------------------------


def test_a_node_is_drained_while_data_is_brought_there_and_comes_back(cluster: Cluster, slow: None) -> None:
    root = fresh(cluster, "drained-early")
    job = cluster.submit(STATE, *warm(root))
    [node] = warming(cluster, job)
    set_node(cluster, node, "drain")
    try:
        wait_for(lambda: warming(cluster, job) != [node], 20, "the data goes elsewhere")
        cluster.origin_ctl("bandwidth", "0")
        assert cluster.wait_done(job)["NodeList"] != node
        assert f"{root}=complete" in cluster.job_output(job)
    finally:
        set_node(cluster, node, "resume")
    again = cluster.submit(STATE, "-w", node, *warm(root))
    cluster.wait_done(again)
    assert f"{root}=complete" in cluster.job_output(again)


def test_what_jobs_hold_on_a_node_that_is_drained_is_copied_from_there_first(cluster: Cluster) -> None:
    root, size = fresh(cluster, "drained-late"), FILES * SIZE
    file, command = waiting_for_go(cluster, "drain")
    running = cluster.submit(f"{command}; {STATE}", "--exclusive", *warm(root))
    wait_for(lambda: "began" in cluster.job_output(running), 60, "it runs")
    node = cluster.job(running)["NodeList"]
    waits = cluster.submit(STATE, *warm(root))
    wait_for(lambda: cluster.job(waits).get("ReqNodeList") == node or cluster.job_state(waits) != "PENDING", 30, "it waits for the holder")
    cluster.origin_ctl("reset")
    set_node(cluster, node, "drain")
    try:
        held = lambda: {row["node"] for row in cluster.atlasctl("placement", str(root)) if row["state"] == "complete"}
        wait_for(lambda: held() - {node}, 30, "another node has a copy")
        fields = cluster.wait_done(waits)
        assert fields["NodeList"] != node and f"{root}=complete" in cluster.job_output(waits)
        assert cluster.origin_stats()["read_bytes"] < size / 10, "it came from the node that is drained"
        assert cluster.job_state(running) == "RUNNING", "whose job goes on"
        file.touch()
        cluster.wait_done(running)
    finally:
        set_node(cluster, node, "resume")


def test_a_node_that_goes_down_loses_its_job_and_nothing_else(cluster: Cluster) -> None:
    root = fresh(cluster, "down")
    file, command = waiting_for_go(cluster, "down-go")
    job = cluster.submit(f"{command}; {STATE}", "--requeue", "--open-mode=append", *warm(root))
    wait_for(lambda: "began" in cluster.job_output(job), 60, "it runs")
    set_node(cluster, cluster.job(job)["NodeList"], "down")
    go(cluster, job)
    assert cluster.job(job)["Restarts"] == "1"
    file.touch()
    cluster.wait_done(job)
    cluster.wait_nodes()  # it comes back by itself: ReturnToService
    assert re.search(rf"{root}=(complete|partial|origin)", cluster.job_output(job))


def test_a_node_that_comes_back_with_an_emptied_store_is_filled_again(cluster: Cluster) -> None:
    root = fresh(cluster, "emptied")
    cluster.wait_done(cluster.submit("true", "-w", "n002", *warm(root)))
    cluster.kill_daemon("agent n002")
    for entry in cluster.store("n002").iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    cluster.start_agent("n002")
    wait_for(lambda: not any(row["node"] == "n002" for row in cluster.atlasctl("placement", str(root))), 20, "nobody believes it is there")
    job = cluster.submit(f"cat {root}/*/* | wc -c; {STATE}", "-w", "n002", *warm(root))
    cluster.wait_done(job)
    assert f"{root}=complete" in cluster.job_output(job) and str(FILES * SIZE) in cluster.job_output(job)


# ---- sites --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def site(cluster: Cluster) -> Iterator[Path]:
    """Slurm's and Atlas's configuration, to be changed; what they were comes back."""
    etc = cluster.state / "etc"
    before = {name: (etc / name).read_text() for name in ("slurm.conf", "atlas.toml", "job_submit.lua")}
    yield etc
    for name, text in before.items():
        (etc / name).write_text(text)
    restart_slurmctld(cluster)


def restart_slurmctld(cluster: Cluster, env: dict[str, str] | None = None) -> None:
    if cluster.running("slurmctld"):
        cluster.stop("slurmctld")
    cluster.start("slurmctld", env=env)
    cluster.wait_nodes()


OWN_RULES = """
local atlas_ok, atlas = pcall(require, "atlas_submit")
function slurm_job_submit(job_desc, part_list, submit_uid)
  if job_desc.name == "forbidden" then
    slurm.log_user("this site does not run such jobs")
    return slurm.ERROR
  end
  job_desc.admin_comment = "ticket 7"
  if atlas_ok then atlas.submit(job_desc, part_list, submit_uid) end
  return slurm.SUCCESS
end
function slurm_job_modify() return slurm.SUCCESS end
return slurm.SUCCESS
"""


@pytest.mark.parametrize("how", ["another plug-in", "one key"])
def test_a_site_without_the_hooks_and_with_rules_of_its_own(cluster: Cluster, site: Path, how: str) -> None:
    """Jobs wait by their begin time, and the controller finds them in the queue."""
    (site / "job_submit.lua").write_text(OWN_RULES)
    if how == "one key":
        (site / "atlas.toml").write_text((site / "atlas.toml").read_text() + "\n[site]\nburst_buffer = false\n")
    else:
        text = (site / "slurm.conf").read_text()
        assert "burst_buffer/lua" in text
        (site / "slurm.conf").write_text(text.replace("burst_buffer/lua", "burst_buffer/datawarp"))
    restart_slurmctld(cluster)
    root = fresh(cluster, f"site-{how.replace(' ', '-')}")
    cluster.origin_ctl("reset")
    cluster.origin_ctl("bandwidth", "100K")
    script = cluster.state / "jobs" / "site.sh"
    script.write_text(f"#!/bin/bash\n#SBATCH -o {script.parent}/site-%j.out\n{STATE}\n")
    try:
        plain = cluster.submit("true")
        submitted = cluster.run("atlas-submit", "--dataset", str(root), "--warm", str(script), user=FIRST, cwd="/tmp").check()
        job = int(submitted.out.split()[-1])
        array = cluster.submit(STATE, "--array=1-2", *warm(root))
        never = cluster.submit("true", *warm(root))
        warming(cluster, job)
        fields = cluster.job(job)
        assert fields["JobState"] == "PENDING" and "BurstBuffer" not in fields
        assert cluster.run("sbatch", "-J", "forbidden", "--wrap", "true", user=FIRST, cwd="/tmp").code != 0
        cluster.wait_done(plain)
        cluster.run("scancel", str(never), user=FIRST).check()
        cluster.wait_state(never, "CANCELLED")
    finally:
        cluster.origin_ctl("bandwidth", "0")
    cluster.wait_done(job)
    assert f"{root}=complete" in (script.parent / f"site-{job}.out").read_text()
    for task in (1, 2):
        cluster.wait_done(f"{array}_{task}")
        assert f"{root}=complete" in cluster.job_output(f"{array}_{task}")
    assert "ticket 7" in cluster.run("scontrol", "show", "job", str(job)).out
    assert cluster.receipt(job)["receipt"]["outcome"] == "warm"


def test_a_job_that_slurm_loses_in_a_crash_says_what_to_do(cluster: Cluster, site: Path) -> None:
    """slurmctld saves its jobs every few seconds and its staging every thirty: killed in the middle of a hook it forgets to go on with it."""
    libexec = cluster.state / "libexec"
    libexec.mkdir(exist_ok=True)
    real = cluster._inside("build", cluster.settings.preset, "bin", "atlas-stage")
    program = libexec / "atlas-stage"
    program.write_text(f'#!/bin/sh\n[ "$1" = data_in ] && sleep 20\nexec {real} "$@"\n')
    program.chmod(0o755)
    root = fresh(cluster, "lost")
    restart_slurmctld(cluster, {"ATLAS_LIBEXEC": str(libexec)})
    job = cluster.submit("true", f"--atlas-dataset={root}")
    wait_for(lambda: cluster.job(job).get("BurstBufferState") == "staging-in", 20, "its hook is under way")
    saved(cluster)
    assert cluster.job(job).get("BurstBufferState") == "staging-in"
    cluster.kill_daemon("slurmctld")
    cluster.start("slurmctld")
    cluster.wait_nodes()

    def told() -> bool:
        return cluster.job_state(job) != "PENDING" or "submit it again" in shown(cluster, job).get("reason", "")
    wait_for(told, 90, "its user is told, or it runs", 0.5)
    if cluster.job_state(job) == "PENDING":  # on some releases it runs
        wait_for(lambda: "scancel" in cluster.run("scontrol", "show", "job", str(job)).out, 30, "its comment says so")
        doctor = {check["check"]: check for check in cluster.atlasctl("doctor")}
        assert str(job) in doctor["staging"]["next_step"], doctor
        cluster.run("scancel", str(job)).check()
    wait_for(lambda: cluster.job_state(job) in ("CANCELLED", "COMPLETED"), 30, "it is over")


def test_nodes_of_a_job_hang_on_one_switch(cluster: Cluster, site: Path) -> None:
    (site / "topology.conf").write_text("SwitchName=s1 Nodes=n[001,003]\nSwitchName=s2 Nodes=n[002,004]\nSwitchName=top Switches=s[1-2]\n")
    (site / "slurm.conf").write_text((site / "slurm.conf").read_text() + "TopologyPlugin=topology/tree\n")
    restart_slurmctld(cluster)
    root = fresh(cluster, "switches")
    blocker = cluster.submit("sleep 60", "-w", "n001", "--exclusive")
    cluster.wait_state(blocker, "RUNNING")
    job = cluster.submit("true", "-N2", *warm(root))
    assert cluster.wait_done(job)["NodeList"] == "n[002,004]"
    assert cluster.receipt(job)["receipt"]["outcome"] == "warm"
    (site / "topology.conf").unlink()
