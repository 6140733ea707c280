"""Jobs whose data is not on their node: it is read through the node's cache, and kept as far as there is room."""

import os
import subprocess
from pathlib import Path

import pytest

import datasets
from cluster import USERS, Cluster, Settings, wait_for
from datasets import STATE, warm

SETTINGS = Settings(nodes=1, origin_latency=0.5, agent_extra='read_deadline = "4s"\ntakeover_deadline = "4s"')
FILES, SIZE = 120, 100_000
FIRST, SECOND = USERS


def hashes(root: Path) -> str:
    return f'cd "{root}" && find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum'


def expected(root: Path) -> list[str]:
    return subprocess.run(["bash", "-c", hashes(root)], capture_output=True, text=True, check=True).stdout.splitlines()


def said(cluster: Cluster, job: int) -> list[str]:
    return [line for line in cluster.job_output(job).splitlines() if not line.startswith("atlas:")]


def placement(cluster: Cluster, root: Path) -> list[tuple[str, int]]:
    return [(row["state"], row["bytes_resident"]) for row in cluster.atlasctl("placement", str(root))]


def test_overlap_starts_at_once_and_reads_through_what_is_not_there_yet(cluster: Cluster) -> None:
    root = cluster.origin / "overlap"
    size = datasets.small_files(root, FILES, SIZE)
    size += datasets.big_file(root / "big", 20_000_000)
    cluster.origin_ctl("reset")
    cluster.origin_ctl("bandwidth", "4M")  # 8 s for all of it
    try:
        job = cluster.submit(f'{STATE}; {hashes(root)}', f"--atlas-dataset={root}", "--atlas-warm=overlap")
        wait_for(lambda: f"{root}=partial" in cluster.job_output(job), 20, "the job has begun")
        assert placement(cluster, root) != [("complete", size)], "long before the warm-up is through"
        cluster.origin_ctl("bandwidth", "0")
        cluster.wait_done(job, 90)
    finally:
        cluster.origin_ctl("bandwidth", "0")
    assert said(cluster, job) == [f"{root}=partial", *expected(root)]
    assert f"atlas: {root} through this node's cache (partial, " in cluster.job_output(job)
    assert cluster.origin_stats()["read_bytes"] < size + (4 << 20), "job and warm-up read each byte once"
    receipt = cluster.receipt(job)["receipt"]
    assert receipt["outcome"] == "partial"
    assert receipt["origin_bytes"] == size
    # Nobody counts them if the kernel has read the large file by itself.
    assert receipt["hit_bytes"] is None or 0 < receipt["hit_bytes"] <= size + (1 << 20), receipt
    wait_for(lambda: placement(cluster, root) == [("complete", size)], 30, "the warm-up goes on to the end")

    cluster.origin_ctl("reset")
    second = cluster.submit(f'{hashes(root)}; {STATE}', *warm(root), user=SECOND)
    cluster.wait_done(second)
    assert said(cluster, second) == [*expected(root), f"{root}=complete"]
    assert cluster.origin_stats()["read_bytes"] == 0


def test_a_job_writes_to_its_dataset_and_reads_it_from_the_cache(cluster: Cluster) -> None:
    root = cluster.origin / "results"
    size = datasets.big_file(root / "model", 3_000_000)
    for path in (root, root / "model"):
        os.chown(path, datasets.uid(FIRST), datasets.gid(FIRST))
    cluster.origin_ctl("reset")
    script = (f'{STATE}; cat "{root}/model" | md5sum; cat "{root}/model" | md5sum; umask 027; mkdir "{root}/run" && '
              f'echo one > "{root}/run/log" && srun bash -c \'echo two >> "{root}/run/log"\' && cat "$ATLAS_ROOT/results/run/log"')
    job = cluster.submit(script, f"--atlas-dataset={root}:rw", user=FIRST)
    cluster.wait_done(job)
    digest = subprocess.run(["md5sum"], input=(root / "model").read_bytes(), capture_output=True, check=True).stdout.decode().strip()
    assert said(cluster, job) == [f"{root}=partial", digest, digest, "one", "two"]
    assert cluster.origin_stats()["read_bytes"] < 2 * size, "the second time it comes from the cache"
    log = root / "run" / "log"
    assert (log.read_text(), log.stat().st_uid, log.stat().st_mode & 0o777) == ("one\ntwo\n", datasets.uid(FIRST), 0o640)
    receipt = cluster.receipt(job)["receipt"]
    assert receipt["outcome"] == "partial"

    # Another user may there what the modes allow, in his own view; the next reader finds what was written.
    script = f'cat "{root}/run/log"; echo no > "{root}/by second" || echo refused; cat "{root}/model" | md5sum'
    other = cluster.submit(script, f"--atlas-dataset={root}:rw", user=SECOND)
    cluster.wait_done(other)
    assert [line for line in said(cluster, other) if "denied" not in line] == ["refused", digest]
    reader = cluster.submit(f'cat "{root}/run/log"; touch "{root}/new"', f"--atlas-dataset={root}", user=FIRST)
    cluster.wait_done(reader, expect="FAILED")
    assert "two" in cluster.job_output(reader) and "Read-only file system" in cluster.job_output(reader)


def test_a_cache_of_a_quarter_of_the_data_serves_that_and_reads_the_rest_through(cluster: Cluster) -> None:
    root = cluster.origin / "quarter"
    size = datasets.small_files(root, FILES, SIZE, seed=3)
    cluster.origin_ctl("reset")
    job = cluster.submit(f'{hashes(root)}; {STATE}', f"--atlas-dataset={root}", f"--atlas-cache={size // 4}", "--atlas-warm")
    cluster.wait_done(job, 60)
    assert said(cluster, job) == [*expected(root), f"{root}=partial"]
    receipt = cluster.receipt(job)["receipt"]
    assert (receipt["outcome"], receipt["origin_bytes"]) == ("partial", size)
    [(state, kept)] = placement(cluster, root)
    assert state == "partial" and size // 4 - SIZE < kept <= size // 4

    # Another job on the node finds what the first one kept.
    cluster.origin_ctl("reset")
    again = cluster.submit(f'{hashes(root)}; {STATE}', f"--atlas-dataset={root}", f"--atlas-cache={size // 4}")
    cluster.wait_done(again, 60)
    assert said(cluster, again) == [*expected(root), f"{root}=partial"]
    receipt = cluster.receipt(again)["receipt"]
    assert receipt["origin_bytes"] == size - kept
    assert receipt["hit_bytes"] == kept
    assert placement(cluster, root) == [("partial", kept)], "nothing that is kept makes way"


def test_a_dataset_of_another_user_keeps_its_modes(cluster: Cluster) -> None:
    root = cluster.origin / "modes"
    datasets.nasty_tree(root)
    look = f'cd "{root}" && find . -printf "%p %y %m %U:%G %T@ %l\\n" 2>/dev/null | LC_ALL=C sort; true'
    at_origin = {user: subprocess.run(["setpriv", "--reuid", user, "--regid", str(datasets.gid(user)), "--init-groups",
                                       "bash", "-c", look], capture_output=True, text=True, check=True,
                                      errors="surrogateescape").stdout.splitlines() for user in USERS}
    cluster.origin_ctl("bandwidth", "100K")  # the warm-up of the background stays behind
    try:
        # One directory may be entered but not listed by the second user: what is in it no walk of his can know.
        for user, state in ((FIRST, "partial"), (SECOND, "origin")):
            job = cluster.submit(f'{STATE}; {look}', f"--atlas-dataset={root}", user=user)
            cluster.wait_done(job, 60)
            assert said(cluster, job) == [f"{root}={state}", *at_origin[user]]
    finally:
        cluster.origin_ctl("bandwidth", "0")


def test_a_hung_origin_fails_reads_in_bounded_time_and_no_node_is_lost(cluster: Cluster) -> None:
    root = cluster.origin / "hung"
    datasets.small_files(root, 10, SIZE, seed=4)
    cluster.origin_ctl("bandwidth", "1K")  # the warm-up of the background stays behind
    go = cluster.state / "jobs" / "go-hung"
    first, last = root / "d0000" / "f000000", root / "d0000" / "f000009"
    job = cluster.submit(f'{STATE}; until [ -e {go} ]; do sleep 0.1; done; cat {last} | wc -c; stat -c %s {first}',
                         f"--atlas-dataset={root}")
    wait_for(lambda: f"{root}=partial" in cluster.job_output(job), 30, "the job has begun")
    cluster.origin_ctl("hang", "read")
    try:
        go.touch()
        cluster.wait_done(job, 40)
        assert said(cluster, job)[1:] == [f"cat: {last}: Input/output error", "0", str(SIZE)]
        killed = cluster.submit(f"echo reading; cat {last}", f"--atlas-dataset={root}")
        wait_for(lambda: "reading" in cluster.job_output(killed), 30, "the job reads")
        cluster.run("scancel", str(killed)).check()
        cluster.wait_state(killed, "CANCELLED", timeout=30)
    finally:
        cluster.origin_ctl("bandwidth", "0")
        cluster.origin_ctl("resume")


@pytest.mark.parametrize("end", ["kill_daemon", "stop"])
def test_an_agent_that_does_not_come_back_leaves_errors_not_hanging_processes(cluster: Cluster, end: str) -> None:
    root = cluster.origin / f"agent-{end}"
    datasets.small_files(root, 40, SIZE, seed=5)
    go = cluster.state / "jobs" / f"go-{end}"
    job = cluster.submit(f'{STATE}; until [ -e {go} ]; do sleep 0.1; done; cat {root}/*/* 2>&1 >/dev/null; echo after',
                         f"--atlas-dataset={root}")
    try:
        wait_for(lambda: f"{root}=partial" in cluster.job_output(job), 30, "the job has begun")
        getattr(cluster, end)("agent n001")
        go.touch()
        cluster.wait_done(job, 30)
        assert said(cluster, job)[-1] == "after" and "cat: " in cluster.job_output(job)
    finally:
        if not cluster.running("agent n001"):
            cluster.start_agent("n001")
