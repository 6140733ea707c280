"""When the cache is too small: jobs run all the same, and what is in use stays."""

from pathlib import Path

import datasets
from cluster import USERS, Cluster, Settings, wait_for
from datasets import STATE, warm

SETTINGS = Settings(nodes=1, quota="60M")
MB = 1_000_000


def dataset(cluster: Cluster, name: str, size: int) -> Path:
    datasets.big_file(cluster.origin / name / "file", size, seed=len(name))
    return cluster.origin / name


def held(cluster: Cluster) -> set[str]:
    return {Path(row["path"]).name for row in cluster.atlasctl("placement") if row["state"] == "complete"}


def test_a_dataset_larger_than_any_cache_is_kept_in_part_and_the_job_told_why(cluster: Cluster) -> None:
    root = dataset(cluster, "huge", 90 * MB)
    job = cluster.submit(f'wc -c <{root}/file; {STATE}', *warm(root))
    cluster.wait_done(job, 60)
    out = cluster.job_output(job)
    assert str(90 * MB) in out and f"{root}=partial" in out
    said = cluster.receipt(job)
    assert said["receipt"]["outcome"] == "partial"
    assert any(word in said["receipt"]["reason"] + out for word in ("room", "larger", "quota", "cache")), said
    assert held(cluster) == set()


def test_what_was_used_least_recently_gives_way(cluster: Cluster) -> None:
    for name in ("first", "second", "third"):
        root = dataset(cluster, name, 25 * MB)
        job = cluster.submit(STATE, *warm(root))
        cluster.wait_done(job)
        assert f"{root}=complete" in cluster.job_output(job)
    # A job's data stays for some time after its end, unless the room is needed.
    assert held(cluster) == {"second", "third"}


def test_what_a_running_job_uses_stays(cluster: Cluster) -> None:
    used = dataset(cluster, "used", 40 * MB)
    go = cluster.state / "jobs" / "go"
    job = cluster.submit(f'until [ -e {go} ]; do sleep 0.1; done; md5sum <{used}/file; {STATE}',
                         *warm(used), "-n1")
    cluster.wait_state(job, "RUNNING")
    wanted = dataset(cluster, "wanted", 40 * MB)
    other = cluster.submit(f'wc -c <{wanted}/file; {STATE}', f"--atlas-dataset={wanted}", "-n1")
    cluster.wait_done(other, 60)
    assert str(40 * MB) in cluster.job_output(other)
    assert "used" in held(cluster)
    go.touch()
    cluster.wait_done(job)
    assert f"{used}=complete" in cluster.job_output(job)


def test_what_a_pending_job_is_going_to_read_stays_and_something_else_goes(cluster: Cluster) -> None:
    """The queue is the future: what was used least recently would go, but a job waits to read it."""
    older, newer, third = (dataset(cluster, name, 25 * MB) for name in ("queue-older", "queue-newer", "queue-third"))
    for root in (older, newer):
        cluster.wait_done(cluster.submit("true", *warm(root)))
    assert {"queue-older", "queue-newer"} <= held(cluster)
    go = cluster.state / "jobs" / "queue-go"
    running = cluster.submit(f"until [ -e {go} ]; do sleep 0.1; done")
    pending = cluster.submit(STATE, "-d", f"afterok:{running}", *warm(older))
    wait_for(lambda: any(job["job_id"] == pending for job in cluster.atlasctl("job", "list")), 20, "the controller knows the pending job")
    cluster.wait_done(cluster.submit(STATE, *warm(third)), 60)
    assert {"queue-older", "queue-third"} <= held(cluster) and "queue-newer" not in held(cluster)
    cluster.origin_ctl("reset")
    go.touch()
    cluster.wait_done(pending)
    assert f"{older}=complete" in cluster.job_output(pending)
    assert cluster.origin_stats()["read_bytes"] == 0


def test_what_a_job_has_read_stays_for_the_one_that_follows_it(cluster: Cluster) -> None:
    """Even when something larger wants all of the cache between the two."""
    root, large = dataset(cluster, "chain", 25 * MB), dataset(cluster, "large", 50 * MB)
    go, last = (cluster.state / "jobs" / name for name in ("chain-go", "chain-last"))
    first = cluster.submit(f"until [ -e {go} ]; do sleep 0.1; done; {STATE}", *warm(root))
    between = cluster.submit(f"until [ -e {last} ]; do sleep 0.1; done")
    second = cluster.submit(STATE, "-d", f"afterok:{first}:{between}", *warm(root))
    cluster.wait_state(first, "RUNNING")
    wait_for(lambda: any(job["job_id"] == second for job in cluster.atlasctl("job", "list")), 20, "the controller knows the second job")
    wait_for(lambda: any(job["job_id"] == first and job["phase"] == "running" for job in cluster.atlasctl("job", "list")), 20, "and the first")
    go.touch()
    cluster.wait_done(first)
    wait_for(lambda: all(not row["jobs"] for row in cluster.atlasctl("placement", str(root))), 20, "the first has let go")
    job = cluster.submit(STATE, *warm(large))
    cluster.wait_done(job, 60)
    assert f"{large}=partial" in cluster.job_output(job), "it has the room that is left"
    assert "chain" in held(cluster)
    cluster.origin_ctl("reset")
    last.touch()
    cluster.wait_done(second)
    assert f"{root}=complete" in cluster.job_output(second)
    assert cluster.origin_stats()["read_bytes"] == 0
    wait_for(lambda: all(not row["jobs"] for row in cluster.atlasctl("placement")), 20, "all have let go")
    cluster.wait_done(cluster.submit(STATE, *warm(large)), 60)
    assert "large" in held(cluster) and "chain" not in held(cluster), "nobody follows any more"


def test_a_pinned_dataset_stays_and_an_unpinned_one_can_be_evicted(cluster: Cluster) -> None:
    root = dataset(cluster, "pinned", 40 * MB)
    cluster.run("atlasctl", "dataset", "warm", str(root), "--node", "n001").check()
    cluster.run("atlasctl", "pin", str(root)).check()
    other = dataset(cluster, "other", 40 * MB)
    job = cluster.submit(f'wc -c <{other}/file; {STATE}', *warm(other))
    cluster.wait_done(job, 60)
    assert f"{other}=partial" in cluster.job_output(job)
    assert "pinned" in held(cluster)
    cluster.run("atlasctl", "unpin", str(root)).check()
    cluster.run("atlasctl", "evict", str(root)).check()
    wait_for(lambda: "pinned" not in held(cluster), 10, "evicted")
    room = f"du -s --block-size=1M {cluster.store('n001')} | cut -f1"
    wait_for(lambda: int(cluster.sh(room).out) < 60, 10, "the room is free again")


def test_a_users_quota_is_his_own_to_fill_and_no_job_is_held_for_it(cluster: Cluster) -> None:
    user, other = USERS
    nobody_holds = lambda: all(not row["jobs"] for row in cluster.atlasctl("placement"))
    wait_for(nobody_holds, 20, "earlier jobs have let go")
    for row in cluster.atlasctl("placement"):
        cluster.run("atlasctl", "evict", row["path"]).check()
    limit = ("atlasctl", "limit", "set", "--user", user, "--cache", "40M")
    assert cluster.run(*limit, user=user).code == 1, "it is the operators' to set"
    cluster.run(*limit).check()
    cluster.run("atlasctl", "limit", "set", "--account", "unheard-of", "--cache", "1").check()
    for name in ("mine-first", "mine-second"):
        job = cluster.submit(STATE, *warm(dataset(cluster, name, 25 * MB)))
        cluster.wait_done(job)
        assert "=complete" in cluster.job_output(job)
        wait_for(nobody_holds, 20, "the job has let go")
    assert held(cluster) == {"mine-second"}, "what nobody holds has made way, although the node has room"
    [mine] = cluster.atlasctl("limit", "list", user=user)
    assert (mine["kind"], mine["name"], mine["cache"]) == ("user", user, 40 << 20)
    assert 25 * MB < mine["cache_used"] < 27 * MB
    assert cluster.atlasctl("limit", "list", user=other) == []

    root = dataset(cluster, "more-than-mine", 45 * MB)
    job = cluster.submit(f'wc -c <{root}/file; {STATE}', *warm(root), "--atlas-cache=50M")
    cluster.wait_done(job, 60)
    out = cluster.job_output(job)
    assert str(45 * MB) in out and f"{root}=partial" in out
    quota = f"the cache quota of user {user}, 40M"
    assert quota in out, "its user is told"
    said = cluster.receipt(job)
    assert said["receipt"]["outcome"] == "partial" and "cache quota" in said["receipt"]["reason"] + said["reason"], said
    assert f"--cache 50M is more than {quota}" in out + said["reason"], said
    assert cluster.atlasctl("limit", "list", user=user)[0]["cache_used"] <= 40 << 20

    theirs = dataset(cluster, "theirs", 15 * MB)
    job = cluster.submit(STATE, *warm(theirs), user=other)
    cluster.wait_done(job)
    assert f"{theirs}=complete" in cluster.job_output(job)
    cluster.run("atlasctl", "limit", "delete", "--user", user).check()
    wait_for(nobody_holds, 20, "jobs have let go")
    job = cluster.submit(STATE, *warm(root))
    cluster.wait_done(job)
    assert f"{root}=complete" in cluster.job_output(job)
