"""atlasctl, and the parts of atlas-submit that ask the controller, on a real cluster."""

import contextlib
import json
import os
import pwd
import re
import sqlite3
import time
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families

import datasets
from cluster import USERS, Cluster, Done, Settings, wait_for

SETTINGS = Settings(nodes=3, slow_origin=True, agent_extra='metrics = "127.0.0.1:9818"\n',
                    controller_extra='metrics = "127.0.0.1:9817"\n')
USER, OTHER = USERS
FILES, SIZE = 40, 25_000


@pytest.fixture(scope="module")
def speech(cluster: Cluster) -> Path:
    directory = cluster.origin / "speech"
    directory.mkdir()
    for i in range(FILES):
        (directory / f"{i}.wav").write_bytes(os.urandom(SIZE))
    wait_for(lambda: nodes(cluster) == {"n001": "up", "n002": "up", "n003": "up"}, 30, "all agents report")
    wait_for(lambda: {n["slurm_state"] for n in ask(cluster, "node", "list")} == {"idle"}, 30, "the controller has seen Slurm's nodes")
    return directory


def ctl(cluster: Cluster, *words: str | Path, user: str = USER, **how: object) -> Done:
    return cluster.run("atlasctl", *map(str, words), user=user, **how)


def ask(cluster: Cluster, *words: str | Path, user: str = USER) -> object:
    return json.loads(ctl(cluster, "--json", *words, user=user).check().out)


def nodes(cluster: Cluster) -> dict[str, str]:
    done = ctl(cluster, "node", "list", "--json")
    return {n["name"]: n["state"] for n in json.loads(done.out)} if done.code == 0 else {}


def holders(cluster: Cluster, dataset: str | Path) -> list[str]:
    return [r["node"] for r in ask(cluster, "placement", dataset) if r["state"] == "complete"]


def test_a_dataset_is_warmed_shown_and_evicted(cluster: Cluster, speech: Path) -> None:
    done = ctl(cluster, "dataset", "warm", speech, "--node", "n[002-003]").check()
    assert f"n002 {speech}: complete 100%" in done.out and f"n003 {speech}: complete 100%" in done.out
    assert holders(cluster, speech) == ["n002", "n003"]
    dataset = ask(cluster, "dataset", "show", speech)
    assert dataset["bytes"] == dataset["cached_bytes"] == FILES * SIZE
    assert dataset["nodes"] == "n[002-003]" and dataset["state"] == "complete"
    line = ctl(cluster, "-nP", "dataset", "list", speech).check().out
    assert line == f"-|{speech}|{FILES * SIZE}|{FILES * SIZE}|100.0|complete|n[002-003]\n"
    assert "UFS TOTAL SIZE" in ctl(cluster, "cache", "list").check().out
    done = ctl(cluster, "evict", speech, "--node", "n003").check()
    assert "1 replica evicted" in done.out
    assert holders(cluster, speech) == ["n002"]
    again = ctl(cluster, "--json", "dataset", "warm", speech, "--node", "n002").check()
    last = json.loads(again.out.splitlines()[-1])
    assert last["phase"] == "complete" and last["origin_bytes"] == 0, "nothing is read for what is there"


def test_verify_finds_a_flipped_bit_and_puts_it_right(cluster: Cluster, speech: Path) -> None:
    copy = next((cluster.state / "nodes" / "n002" / "store" / "replicas").glob("*/*/tree/0.wav"))
    with copy.open("r+b") as file:
        byte = file.read(1)
        file.seek(0)
        file.write(bytes([byte[0] ^ 1]))
    last = json.loads(ctl(cluster, "--json", "dataset", "verify", speech).check().out.splitlines()[-1])
    assert last["phase"] == "complete" and last["bad_blocks"] == 1
    assert copy.read_bytes() == (speech / "0.wav").read_bytes()
    text = ctl(cluster, "dataset", "verify", speech).check().out
    assert "complete" in text and "bad block" not in text
    assert ctl(cluster, "dataset", "verify", cluster.origin / "nobody-has-it").code == 1


def test_names_are_the_operators_and_each_users_own(cluster: Cluster, speech: Path) -> None:
    refused = ctl(cluster, "dataset", "create", "speech", speech)
    assert refused.code == 1 and "operator" in refused.err
    ctl(cluster, "dataset", "create", "speech", speech, user="root").check()
    assert ask(cluster, "dataset", "show", "speech")["path"] == str(speech)
    ctl(cluster, "dataset", "create", f"~{USER}/mine", speech).check()
    assert ctl(cluster, "dataset", "create", f"~{OTHER}/mine", speech).code == 1
    assert ctl(cluster, "dataset", "show", "no-such-name").code == 1
    ctl(cluster, "dataset", "delete", f"~{USER}/mine").check()
    assert ctl(cluster, "dataset", "show", f"~{USER}/mine").code == 1


def test_pins_keep_replicas_and_are_for_operators(cluster: Cluster, speech: Path) -> None:
    assert ctl(cluster, "pin", speech).code == 1
    assert "1 replica pinned" in ctl(cluster, "pin", speech, user="root").check().out
    kept = ctl(cluster, "evict", speech)
    assert kept.code == 1 and "is pinned" in kept.err
    assert holders(cluster, speech) == ["n002"]
    ctl(cluster, "unpin", speech, user="root").check()


def test_draining_is_for_operators_and_slurm_does_not_notice(cluster: Cluster, speech: Path) -> None:
    assert ctl(cluster, "node", "drain", "n003").code == 1
    ctl(cluster, "node", "drain", "n003", user="root").check()
    assert nodes(cluster)["n003"] == "drained"
    seen = [n["last_seen"] for n in ask(cluster, "node", "list")]
    assert all(abs(time.time() - s) < 120 for s in seen), "seconds since the epoch"
    assert cluster.sinfo_R() == ""
    ctl(cluster, "node", "resume", "n003", user="root").check()
    wait_for(lambda: nodes(cluster)["n003"] == "up", 10, "n003 is used again")


def test_explain_names_the_holder_and_submits_nothing(cluster: Cluster, speech: Path) -> None:
    done = cluster.run("atlas-submit", "--dataset", speech, "--warm", "--explain", "--json", "--wrap", "true", user=USER).check()
    answer = json.loads(done.out)
    assert [c["nodes"] for c in answer["candidates"] if c["chosen"]] == ["n002"], answer
    text = cluster.run("atlas-submit", "--dataset", speech, "--warm", "--explain", "--wrap", "true", user=USER).check().out
    assert "Decision: " in text and "Nothing was submitted." in text
    assert cluster.run("squeue", "-h").check().out == ""


def test_explain_walks_what_was_never_seen(cluster: Cluster) -> None:
    root = cluster.origin / "unseen"
    size = datasets.small_files(root, 30, 1000)
    done = cluster.run("atlas-submit", "--dataset", root, "--warm", "--explain", "--json", "--wrap", "true", user=USER).check()
    assert json.loads(done.out)["estimates"] == [{"path": str(root), "bytes": size, "files": 30, "complete": True}]
    nowhere = cluster.run("atlas-submit", "--dataset", root / "not", "--warm", "--explain", "--wrap", "true", user=USER)
    assert nowhere.code != 0 and "not" in nowhere.err


def test_what_waiting_and_reading_cost_is_weighed(cluster: Cluster) -> None:
    """The origin gives 4M/s: a holder that is busy for long is not waited for."""
    small, measured = cluster.origin / "small", cluster.origin / "measured"
    datasets.big_file(small / "data", 8 << 20)
    holder = cluster.wait_done(cluster.submit("true", *datasets.warm(small)))["NodeList"]
    datasets.big_file(measured / "data", 16 << 20)
    cluster.origin_ctl("bandwidth", "4M")
    try:
        cluster.wait_done(cluster.submit("true", *datasets.warm(measured)), 60)
        wait_for(lambda: plan_of(cluster, small), 60, "the origin's rate is known")
        busy = cluster.submit("sleep 600", "--exclusive", "--time=60", f"--nodelist={holder}")
        wait_for(lambda: cluster.job(busy).get("JobState") == "RUNNING", 30, "the holder is busy")
        away = cluster.submit("true", *datasets.warm(small))
        fields = cluster.wait_done(away, 60)
        assert fields["NodeList"] != holder, "two seconds of reading are less than an hour"
        rows = ask(cluster, "job", "show", str(away))["plan"]
        assert rows[0]["what"] in ("warm", "go") and rows[0]["start"] == 0, rows
        assert any(row["what"] == "wait" and row["start"] > 300 for row in rows[1:]), rows
        cluster.run("scancel", str(busy), user="root").check()
        cluster.wait_done(busy, 60, expect="CANCELLED")
    finally:
        cluster.origin_ctl("bandwidth", "0")


def plan_of(cluster: Cluster, root: Path) -> list[dict]:
    done = cluster.run("atlas-submit", "--dataset", root, "--warm", "--explain", "--json", "--wrap", "true", user=USER).check()
    return json.loads(done.out)["alternatives"]


def test_follow_tells_the_whole_story(cluster: Cluster, speech: Path) -> None:
    fresh = cluster.origin / "fresh"
    fresh.mkdir()
    (fresh / "data").write_bytes(os.urandom(SIZE))
    done = cluster.run("atlas-submit", "--dataset", fresh, "--warm", "--follow", "-o", "/dev/null", "--wrap",
                       f"cat {fresh}/data >/dev/null", user=USER, cwd="/tmp", timeout=90).check()
    assert done.out.startswith("Submitted batch job ") and done.out.count("\n") == 1
    job = done.out.split()[-1]
    assert f"job {job}: running on n" in done.err
    assert f"job {job}: ended on n" in done.err and " (COMPLETED)\n" in done.err
    assert f"receipt of job {job}" in done.err and "warm: " in done.err
    shown = ask(cluster, "job", "show", job)
    assert shown["slurm_state"] == "COMPLETED"
    assert shown["phase"] == "ended" and shown["receipt"]["outcome"] == "warm"
    assert shown["receipt"]["resident_bytes"] == SIZE
    assert holders(cluster, fresh) == [shown["receipt"]["nodes"]]
    assert job in [str(j["job_id"]) for j in ask(cluster, "job", "list", "--all")]
    assert str(job) in ctl(cluster, "job", "list", "--all").check().out


def test_follow_says_that_a_job_failed(cluster: Cluster, speech: Path) -> None:
    done = cluster.run("atlas-submit", "--dataset", speech, "--follow", "-o", "/dev/null", "--wrap", "exit 3", user=USER, cwd="/tmp",
                       timeout=60).check()
    assert " (FAILED)\n" in done.err


def test_jobs_of_others_are_not_shown(cluster: Cluster, speech: Path) -> None:
    job = cluster.submit("true", f"--atlas-dataset={speech}")
    cluster.wait_done(job)
    done = ctl(cluster, "job", "show", str(job), user=OTHER)
    assert done.code == 1 and done.out == ""
    assert str(job) not in ctl(cluster, "-nP", "job", "list", "--all", user=OTHER).check().out


def test_a_directory_of_ones_own_stays_ones_own(cluster: Cluster, speech: Path) -> None:
    secret = cluster.origin / "secret"
    secret.mkdir(mode=0o700)
    (secret / "data").write_bytes(b"x" * SIZE)
    for path in (secret, secret / "data"):
        os.chown(path, pwd.getpwnam(USER).pw_uid, pwd.getpwnam(USER).pw_gid)
    ctl(cluster, "dataset", "warm", secret, "--node", "n001").check()
    assert holders(cluster, secret) == ["n001"]
    for words in (["dataset", "list"], ["placement"]):
        assert "secret" not in ctl(cluster, *words, user=OTHER).check().out
    for words in (["dataset", "warm", secret], ["evict", secret], ["dataset", "show", secret]):
        assert ctl(cluster, *words, user=OTHER).code == 1
    assert holders(cluster, secret) == ["n001"]


def metrics(cluster: Cluster, port: int, node: str | None = None) -> dict[str, Metric]:
    """What is served for monitoring, read by a strict parser; every family as the dashboard and the alerts know it."""
    text = cluster.run("curl", "--fail", "--silent", "--max-time", "10", f"http://127.0.0.1:{port}/metrics", node=node).check().out
    return {family.name: family for family in text_string_to_metric_families(text)}


def test_monitoring_is_told_of_jobs_nodes_and_limits(cluster: Cluster, speech: Path) -> None:
    cluster.run("atlasctl", "limit", "set", "--user", OTHER, "--read", "7M").check()
    try:
        ctl(cluster, "dataset", "warm", speech, "--node", "n002").check()
        job = cluster.submit(f"cat {speech}/*.wav | wc -c", *datasets.warm(speech), "-w", "n002")
        cluster.wait_done(job)
        cluster.receipt(job)
        seen, node = metrics(cluster, 9817), metrics(cluster, 9818, node="n002")
        values = {(s.name, *s.labels.values()): s.value for m in (seen, node) for f in m.values() for s in f.samples}
        assert values["atlas_agents", "yes"] == 3 and values["atlas_slurm_up",] == 1
        assert values["atlas_jobs_ended_total", "warm"] >= 1
        assert values["atlas_limit_rate_bytes", "user", OTHER] == 7 << 20
        uid = str(pwd.getpwnam(USER).pw_uid)
        assert values["atlas_origin_read_bytes_total", uid] + values["atlas_peer_read_bytes_total", uid] >= FILES * SIZE
        assert values["atlas_tier_state", "nvme", "ok"] == 1 and values["atlas_tier_used_bytes", "nvme"] >= FILES * SIZE
        monitoring = Path(__file__).resolve().parents[2] / "etc/monitoring"
        for name in ("atlas-alerts.yml", "atlas-dashboard.json"):
            asked = set(re.findall(r"\batlas_[a-z_]+", (monitoring / name).read_text()))
            served = {s.name for m in (seen, node) for f in m.values() for s in f.samples} | seen.keys() | node.keys()
            assert asked and asked <= served, f"{name} asks for what nobody serves: {asked - served}"
    finally:
        cluster.run("atlasctl", "limit", "delete", "--user", OTHER).check()


def test_a_limit_holds_on_all_nodes_together_within_two_seconds(cluster: Cluster, speech: Path) -> None:
    rate, names = 4 << 20, cluster.node_names[:2]
    roots = [cluster.origin / f"limited-{node}" for node in names]
    for root in roots:
        datasets.big_file(root / "file", 120_000_000, seed=len(root.name) + int(root.name[-1]))

    def parts() -> list[dict]:
        return cluster.atlasctl("limit", "show", "--origin", "lustre")["parts"]

    def read_in(seconds: float) -> float:
        before, began = cluster.origin_stats()["read_bytes"], time.monotonic()
        time.sleep(seconds)
        return (cluster.origin_stats()["read_bytes"] - before) / (time.monotonic() - began)

    refused = cluster.run("atlasctl", "limit", "set", "--origin", "lustre", "--read", "1G", user=USERS[0])
    assert refused.code != 0 and "operators" in refused.err
    for words in (["--read", "0"], ["--read=-5M"], ["--ops", "0"], ["--weight", "2"], ["--burst", "1ms", "--read", "1M"]):
        assert cluster.run("atlasctl", "limit", "set", "--origin", "lustre", *words).code != 0, words
    for unknown in (["--user", "nobody-at-all"], ["--group", "nobody-at-all"], ["--node", "n999"], ["--origin", "elsewhere"]):
        assert cluster.run("atlasctl", "limit", "set", *unknown, "--read", "1M").code != 0, unknown
    cluster.origin_ctl("bandwidth", "30M")  # 8 s for both, without a limit
    jobs = [cluster.submit(f"sha256sum <{root}/file >/dev/null", f"--atlas-dataset={root}", "-w", node) for node, root in zip(names, roots)]
    try:
        for job in jobs:
            cluster.wait_state(job, "RUNNING")
        cluster.run("atlasctl", "limit", "set", "--origin", "lustre", "--read", str(rate)).check()
        set_at = time.monotonic()
        time.sleep(max(0.0, set_at + 2 - time.monotonic()))
        # A piece (4 MiB) is read at once and paid for afterwards: one on each node may fall into the window.
        assert read_in(5) <= 1.1 * rate + len(names) * (4 << 20) / 5
        assert len({part["node"] for part in parts()}) == 2
        assert sum(part["share"]["read"] for part in parts()) <= 1.01 * rate
        cluster.restart("controller")
        cluster.wait_agents()
        assert [limit["read"] for limit in cluster.atlasctl("limit", "list")] == [rate]
        assert read_in(5) <= 1.1 * rate + len(names) * (4 << 20) / 5
    finally:
        cluster.run("atlasctl", "limit", "delete", "--origin", "lustre")
        cluster.origin_ctl("bandwidth", "0")
    for job in jobs:
        cluster.wait_done(job, 120)
    assert all(cluster.receipt(job)["receipt"]["throttled"] > 0 for job in jobs)
    # A job's own limit, and nobody else's.
    own = cluster.origin / "limited-itself"
    datasets.big_file(own / "file", 60_000_000, seed=77)
    job = cluster.submit(f"sha256sum <{own}/file >/dev/null", f"--atlas-dataset={own}", "--atlas-io-limit=3M", "-w", names[0])
    before = cluster.origin_stats()["read_bytes"]
    wait_for(lambda: cluster.origin_stats()["read_bytes"] > before, 60, "it reads")
    assert 0 < read_in(5) <= 1.1 * (3 << 20) + (4 << 20) / 5
    cluster.wait_done(job, 120)
    assert cluster.receipt(job)["receipt"]["throttled"] > 0


def test_top_shows_who_reads_where_and_of_what(cluster: Cluster, speech: Path) -> None:
    roots = {user: cluster.origin / f"top-{user}" for user in USERS}
    for seed, (user, root) in enumerate(roots.items()):
        datasets.big_file(root / "file", 400_000_000, seed=seed)
    cluster.run("atlasctl", "limit", "set", "--user", OTHER, "--read", "2M").check()
    cluster.origin_ctl("bandwidth", "20M")
    jobs = [cluster.submit(f"sha256sum <{root}/file", f"--atlas-dataset={root}", "-w", node, user=user)
            for node, (user, root) in zip(cluster.node_names, roots.items())]

    def top(user: str) -> tuple[bool, dict[str, dict], dict[str, dict], dict[str, dict]]:
        answer = ask(cluster, "top", user=user)
        return answer["all"], *({row["name"]: row for row in answer[table]} for table in ("nodes", "users", "datasets"))

    def both_are_read() -> bool:
        _, _, users, _ = top("root")
        return set(users) == set(USERS) and all(row["origin"] > 0 for row in users.values()) and users[OTHER]["waiting"] > 0

    try:
        for job in jobs:
            cluster.wait_state(job, "RUNNING")
        wait_for(both_are_read, 30, "both users read, one of them under his limit")
        everything, where, users, what = top("root")
        assert everything and set(where) == set(cluster.node_names[:2]) and set(what) == {str(root) for root in roots.values()}
        # An unlimited one's reads are counted, too. Of what is limited most has waited.
        assert users[USER]["throttled"] == users[USER]["waiting"] == 0
        # A job's own nodes, data and name; nothing of others'.
        everything, where, users, what = top(USER)
        assert not everything and (set(where), set(users), set(what)) == ({"n001"}, {USER}, {str(roots[USER])})
        table = ctl(cluster, "top", "--sort", "name").check().out
        assert USER in table and OTHER not in table and str(roots[OTHER]) not in table
    finally:
        cluster.run("atlasctl", "limit", "delete", "--user", OTHER)
        cluster.run("scancel", *map(str, jobs))
        cluster.origin_ctl("bandwidth", "0")
    wait_for(lambda: top("root") == (True, {}, {}, {}), 30, "nothing is read any more")


def test_a_thousand_limits_and_a_user_with_a_byte_a_second_on_all_nodes(cluster: Cluster, speech: Path) -> None:
    root = cluster.origin / "byte"
    datasets.big_file(root / "file", 400_000_000, seed=3)
    cluster.stop("controller")
    catalogue = sqlite3.connect(cluster.state / "controller" / "catalog.db")
    with catalogue:
        catalogue.executemany("INSERT INTO limits (kind, subject, set_by, since, bytes_per_second) VALUES ('account', ?, 'root', 0, 1000000000)",
                              [(f"team{number}",) for number in range(999)])
    catalogue.close()
    cluster.start("controller")
    cluster.wait_agents()
    cluster.origin_ctl("bandwidth", "30M")
    job = cluster.submit(f"srun -N3 -n3 sha256sum {root}/file", f"--atlas-dataset={root}", "-N3")

    def waiting() -> set[str]:
        return {part["node"] for part in cluster.atlasctl("limit", "show", "--user", USER)["parts"] if part["waiting"]}

    try:
        wait_for(lambda: cluster.origin_stats()["read_bytes"] > 20_000_000, 30, "the job reads")
        cluster.run("atlasctl", "limit", "set", "--user", USER, "--read", "1").check()
        time.sleep(2)
        assert len(cluster.atlasctl("limit", "list")) == 1000
        before, began = cluster.origin_stats()["read_bytes"], time.monotonic()
        wait_for(lambda: waiting() == set(cluster.node_names), 20, "it waits on all nodes")
        time.sleep(max(0.0, began + 4 - time.monotonic()))
        # Each node may read a piece every half a minute, after one of 4 MiB at most that was under way; without the limit it is 30 MB/s.
        assert cluster.origin_stats()["read_bytes"] - before <= len(cluster.node_names) * (4 << 20) * 1.2
        assert cluster.job(job)["JobState"] == "RUNNING"
        cluster.run("scancel", str(job)).check()
        cluster.wait_done(job, 15, expect="CANCELLED")
        assert cluster.sinfo_R() == ""
    finally:
        cluster.run("scancel", str(job))
        cluster.run("atlasctl", "limit", "delete", "--user", USER)
        cluster.origin_ctl("bandwidth", "0")
        cluster.stop("controller")
        with contextlib.closing(sqlite3.connect(cluster.state / "controller" / "catalog.db")) as catalogue, catalogue:
            catalogue.execute("DELETE FROM limits WHERE kind = 'account'")
        cluster.start("controller")
        cluster.wait_agents()


def test_doctor_is_content_and_finds_what_is_broken(cluster: Cluster, speech: Path) -> None:
    done = ctl(cluster, "doctor")
    assert done.code == 0, done.out
    states = {f["check"]: f["state"] for f in ask(cluster, "doctor")}
    assert states["munge"] == states["controller"] == states["origin lustre"] == states["configuration"] == "ok"
    cluster.stop("agent n003")
    try:
        wait_for(lambda: any(f["state"] != "ok" and "n003" in f["check"] + f["detail"] for f in json.loads(ctl(cluster, "--json", "doctor").out)),
                 60, "doctor finds the missing agent")
    finally:
        cluster.start_agent("n003")
        wait_for(lambda: nodes(cluster).get("n003") == "up", 30, "n003 is back")


def test_without_a_controller_everybody_is_told_where_to_look(cluster: Cluster, speech: Path) -> None:
    cluster.stop("controller")
    try:
        done = ctl(cluster, "node", "list")
        assert done.code == 1 and "cannot reach the controller at" in done.err and "atlasctl doctor" in done.err
        doctor = ctl(cluster, "doctor")
        assert doctor.code == 1 and "systemctl status atlas-controller" in doctor.out
        done = cluster.run("atlas-submit", "--dataset", speech, "--follow", "-o", "/dev/null", "--wrap", "true", user=USER, cwd="/tmp")
        assert done.code == 0 and "Submitted batch job" in done.out and "cannot follow job" in done.err
        cluster.wait_done(int(done.out.split()[-1]))
    finally:
        cluster.start("controller")
        wait_for(lambda: nodes(cluster).get("n001") == "up", 30, "agents report again")
