"""LibslurmPort against a real slurmctld, through slurm-port-probe."""

import json
import time
from typing import Any

import pytest

from cluster import USERS, Cluster, Settings, wait_for

SETTINGS = Settings(nodes=3, slow_origin=False, atlas=False)


def probe(cluster: Cluster, *words: str, ok: bool = True, stdin: bytes = b"", user: str = "slurm") -> Any:
    tool = cluster._inside("build", cluster.settings.preset, "tests", "slurm-port-probe")
    done = cluster.run(tool, *words, user=user, stdin=stdin)
    assert (done.code == 0) == ok, done.out + done.err
    lines = [json.loads(line) for line in done.out.splitlines()]
    return lines if words[0] == "load" else lines[-1]


def job(cluster: Cluster, number: int) -> dict:
    return probe(cluster, "job", str(number))


@pytest.fixture(autouse=True)
def empty_queue(cluster: Cluster):
    yield
    if cluster.running("slurmctld"):
        cluster.run("scancel", "-u", USERS[0])
        wait_for(lambda: cluster.run("squeue", "-h").out.strip() == "", 30, "the queue is empty")


def test_the_cluster_has_a_name(cluster: Cluster) -> None:
    assert probe(cluster, "cluster") == "atlastest"


def test_a_pending_job_is_read_field_by_field(cluster: Cluster) -> None:
    own = int(time.time()) + 500
    number = cluster.submit("true", "--begin=now+500", "-N2-3", "-c2", "-t", "90", "-J", "some name", "-x", "n003", "--comment=hello",
                            "--exclusive")
    fields = job(cluster, number)
    uid = int(cluster.run("id", "-u", USERS[0]).out)
    expected = {"id": number, "array_job_id": 0, "array_waiting": False, "het_job_id": 0, "restarts": 0, "uid": uid, "name": "some name",
                "partition": "main", "state": "pending", "held": False, "exclusive": True, "nodes_wanted": 2, "nodes_most": 3,
                "time_limit": 90, "exc_nodes": "n003", "comment": "hello", "nodes": "", "req_nodes": "", "own_begin": None}
    assert {key: fields[key] for key in expected} == expected
    assert abs(fields["begin"] - own) <= 2
    assert abs(fields["submitted"] - (own - 500)) <= 2
    wait_for(lambda: job(cluster, number)["state_reason"] == "BeginTime", 10, "its reason")


def test_states_follow_the_job(cluster: Cluster) -> None:
    held = cluster.submit("true", "--hold")
    assert job(cluster, held)["held"]
    assert job(cluster, held)["state_reason"] == "JobHeldUser"
    running = cluster.submit("sleep 60", "-w", "n002")
    cluster.wait_state(running, "RUNNING")
    fields = job(cluster, running)
    assert (fields["state"], fields["nodes"], fields["exclusive"]) == ("running", "n002", False)
    cluster.run("scontrol", "suspend", str(running)).check()
    assert job(cluster, running)["state"] == "suspended"
    cluster.run("scancel", str(running)).check()
    wait_for(lambda: job(cluster, running)["state"] == "ended", 15, "the job's end")


def test_an_array_is_one_record_until_its_tasks_split_out(cluster: Cluster) -> None:
    number = cluster.submit("true", "--array=3-7", "--begin=now+500")
    fields = job(cluster, number)
    assert (fields["array_job_id"], fields["array_task_id"], fields["array_waiting"]) == (number, None, True)
    probe(cluster, "patch", str(number), f"begin={int(time.time())}")
    for task in range(3, 8):
        cluster.wait_done(f"{number}_{task}")
    records = [j for j in probe(cluster, "load", stdin=b"\n")[0]["jobs"] if j["array_job_id"] == number]
    assert sorted(j["array_task_id"] for j in records) == [3, 4, 5, 6, 7]
    assert not any(j["array_waiting"] for j in records)


def test_a_heterogeneous_job_is_known_as_one(cluster: Cluster) -> None:
    number = cluster.submit("true", "--begin=now+500", "-N1", ":", "-N1")
    assert job(cluster, number)["het_job_id"] == number
    assert job(cluster, number + 1)["het_job_id"] == number


def test_one_update_pins_and_releases(cluster: Cluster) -> None:
    number = cluster.submit("hostname", "--begin=now+500", "-N1")
    probe(cluster, "patch", str(number), "req_nodes=n003", f"begin={int(time.time())}", "comment=why", "admin_comment=note")
    cluster.wait_done(number)
    fields = job(cluster, number)
    assert (fields["nodes"], fields["comment"], fields["admin_comment"]) == ("n003", "why", "note")


def test_an_empty_pin_unpins(cluster: Cluster) -> None:
    number = cluster.submit("true", "--begin=now+500", "-w", "n001")
    probe(cluster, "patch", str(number), "req_nodes=")
    assert job(cluster, number)["req_nodes"] == ""


def test_a_pin_never_shrinks_a_job_that_has_started(cluster: Cluster) -> None:
    """Slurm takes req_nodes of a running job as "shrink to these nodes", and does so even when it refuses the update."""
    number = cluster.submit("sleep 60", "-N2", "-w", "n[001-002]")
    cluster.wait_state(number, "RUNNING")
    for update in (["req_nodes=n001"], ["req_nodes=n001", f"begin={int(time.time())}"]):
        assert probe(cluster, "patch", str(number), *update, ok=False)["code"] == "failed_precondition"
    assert job(cluster, number)["nodes"] == "n[001-002]"


def test_a_pin_races_with_the_jobs_start_and_no_job_shrinks(cluster: Cluster) -> None:
    """Two-node jobs are pinned to one node at the very moment they start, many times."""
    for _ in range(15):
        number = cluster.submit("exec sleep 60", "-N2")  # a child could be born while Slurm looks whom to kill, and stay
        answer = {}
        deadline = time.monotonic() + 20
        while answer.get("code") != "failed_precondition" and time.monotonic() < deadline:
            tool = cluster._inside("build", cluster.settings.preset, "tests", "slurm-port-probe")
            done = cluster.run(tool, "patch", str(number), "req_nodes=n001", user="slurm")
            answer = json.loads(done.out.splitlines()[-1])
            if job(cluster, number)["state"] == "running":
                break
        cluster.wait_state(number, "RUNNING")
        fields = cluster.job(number)
        assert fields["NumNodes"] == "2", fields
        cluster.run("scancel", str(number)).check()


def test_errors_have_codes(cluster: Cluster) -> None:
    done = cluster.submit("true")
    cluster.wait_done(done)
    assert probe(cluster, "patch", str(done), "begin=5", ok=False)["code"] == "failed_precondition"
    assert probe(cluster, "patch", "999999", "begin=5", ok=False)["code"] == "not_found"
    assert probe(cluster, "job", "999999", ok=False)["code"] == "not_found"
    pending = cluster.submit("true", "--begin=now+500")
    assert probe(cluster, "patch", str(pending), "req_nodes=nosuch", ok=False)["code"] == "invalid_argument"
    assert probe(cluster, "patch", str(pending), "comment=x", ok=False, user=USERS[1])["code"] == "permission_denied"


def test_nodes_and_partitions(cluster: Cluster) -> None:
    busy = cluster.submit("sleep 60", "-w", "n001", "-c", "3")
    cluster.wait_state(busy, "RUNNING")
    cluster.run("scontrol", "update", "nodename=n003", "state=drain", "reason=test").check()
    try:
        (snapshot,) = probe(cluster, "load", stdin=b"\n")
    finally:
        cluster.run("scontrol", "update", "nodename=n003", "state=resume").check()
    nodes = {node.pop("name"): node for node in snapshot["nodes"]}
    assert nodes["n001"] == {"usable": True, "state": "mixed", "cpus": 4, "cpus_busy": 3, "partitions": ["main"]}
    assert nodes["n002"] == {"usable": True, "state": "idle", "cpus": 4, "cpus_busy": 0, "partitions": ["main"]}
    assert nodes["n003"] == {"usable": False, "state": "drained", "cpus": 4, "cpus_busy": 0, "partitions": ["main"]}
    assert snapshot["partitions"] == [{"name": "main", "is_default": True, "nodes": "n[001-003]"}]


def test_incremental_loads_see_every_change(cluster: Cluster) -> None:
    """One process, many loads: what changed between two of them shows, what did not stays."""
    tool = cluster._inside("build", cluster.settings.preset, "tests", "slurm-port-probe")
    number = cluster.submit("true", "--begin=now+500")
    script = f"""coproc P {{ exec {tool} load; }}
ask() {{ echo >&${{P[1]}}; read -r line <&${{P[0]}}; echo "$line"; }}
ask; ask; scontrol update jobid={number} comment=changed; ask; scontrol update nodename=n002 state=drain reason=x; ask
scontrol update nodename=n002 state=resume; scancel {number}; ask"""
    done = cluster.sh(script).check()
    loads = [json.loads(line) for line in done.out.splitlines()]

    def comment(load: dict) -> str:
        return next(j["comment"] for j in load["jobs"] if j["id"] == number)

    def state(load: dict) -> str:
        return next(n["state"] for n in load["nodes"] if n["name"] == "n002").rstrip("*")  # resumed, and not heard of yet
    assert [comment(load) for load in loads[:4]] == ["", "", "changed", "changed"]
    assert [state(load) for load in loads] == ["idle", "idle", "idle", "drained", "idle"]
    assert next(j["state"] for j in loads[4]["jobs"] if j["id"] == number) == "ended"


def test_without_slurmctld_calls_end_and_say_so(cluster: Cluster) -> None:
    cluster.stop("slurmctld")
    try:
        before = time.monotonic()
        answer = probe(cluster, "patch", "1", "begin=5", ok=False)
        assert answer["code"] == "unavailable" and "scontrol ping" in answer["message"]
        assert time.monotonic() - before < 40
    finally:
        cluster.start("slurmctld")
        wait_for(lambda: cluster.run("scontrol", "ping").code == 0, 20, "slurmctld answers")
        cluster.wait_nodes()
