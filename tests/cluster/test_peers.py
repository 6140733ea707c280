"""Nodes that warm one dataset read the origin once, however many they are, and copy the rest from each other."""

import subprocess
from pathlib import Path

import pytest

import datasets
from cluster import USERS, Cluster, Settings, wait_for
from datasets import STATE, warm

# The origin is slow enough for the nodes to be at it together.
SETTINGS = Settings(nodes=8, cpus=8, origin_latency=0.2, atlas_extra='[warm]\nmax_idle = "30m"\n')
FILES, SIZE = 600, 60_000


def fresh(cluster: Cluster, name: str, files: int = FILES, size: int = SIZE) -> tuple[Path, int]:
    root = cluster.origin / name
    return root, datasets.small_files(root, files, size, seed=len(name))


def digest(root: Path) -> str:
    return f'cd "{root}" && find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum'


def expected(root: Path) -> str:
    return subprocess.run(["bash", "-c", digest(root)], capture_output=True, text=True, check=True).stdout.strip()


def said(cluster: Cluster, job: int) -> list[str]:
    return [line for line in cluster.job_output(job).splitlines() if not line.startswith("atlas:")]


def gang(cluster: Cluster, root: Path, nodes: int) -> tuple[int, list[str]]:
    """A job whose nodes all read everything; its id and what it printed."""
    job = cluster.submit(f"srun bash -c '{digest(root)}; {STATE}'", f"-N{nodes}", "--ntasks-per-node=1", *warm(root))
    cluster.wait_done(job, 120)
    return job, said(cluster, job)


@pytest.mark.parametrize("nodes", [2, 4, 8])
def test_a_job_on_several_nodes_reads_the_origin_once(cluster: Cluster, nodes: int) -> None:
    root, size = fresh(cluster, f"gang-{nodes}")
    cluster.origin_ctl("reset")
    job, lines = gang(cluster, root, nodes)
    stats = cluster.origin_stats()
    assert sorted(lines) == sorted([expected(root), f"{root}=complete"] * nodes)
    assert size <= stats["read_bytes"] <= 1.02 * size
    assert stats["ops"]["open"] <= 1.02 * FILES
    receipt = cluster.receipt(job)["receipt"]
    assert receipt["outcome"] == "warm"
    assert size <= receipt["origin_bytes"] <= 1.02 * size, "what came from other nodes is not the origin's"
    assert receipt["peer_bytes"] == nodes * size - receipt["origin_bytes"]
    assert len(cluster.atlasctl("placement", str(root))) == nodes


@pytest.mark.parametrize("nodes", [2, 4])
def test_nodes_divide_one_large_file_among_themselves(cluster: Cluster, nodes: int) -> None:
    root = cluster.origin / f"large-{nodes}"
    size = datasets.big_file(root / "data.mdb", 300_000_000, seed=nodes)
    cluster.origin_ctl("reset")
    job, lines = gang(cluster, root, nodes)
    stats = cluster.origin_stats()
    assert sorted(lines) == sorted([expected(root), f"{root}=complete"] * nodes)
    receipt = cluster.receipt(job)["receipt"]
    assert (receipt["origin_bytes"], receipt["peer_bytes"]) == (size, (nodes - 1) * size)
    # All nodes share this machine's page cache, and each open of the file drops it: what the kernel has just read for one node
    # another one's open may make it read again.
    assert size <= stats["read_bytes"] <= 1.2 * size


def test_nodes_divide_a_dataset_that_is_larger_than_each_one_s_cache(cluster: Cluster) -> None:
    root, size = fresh(cluster, "divided")
    cluster.origin_ctl("reset")
    wanted = ["-N2", "--ntasks-per-node=1", *warm(root), "--atlas-cache=24M"]  # of 36 MB
    job = cluster.submit(f"srun bash -c '{digest(root)}; {STATE}'", *wanted)
    cluster.wait_done(job, 120)
    assert sorted(said(cluster, job)) == sorted([expected(root), f"{root}=partial"] * 2)
    assert size <= cluster.origin_stats()["read_bytes"] <= 1.02 * size
    ended = cluster.receipt(job)
    assert "divide the data" in ended["reason"], ended
    assert size <= ended["receipt"]["origin_bytes"] <= 1.02 * size
    assert ended["receipt"]["peer_bytes"] >= 0.98 * size, "each reads the other's half from it"
    resident = {row["node"]: row["bytes_resident"] for row in cluster.atlasctl("placement", str(root))}
    assert len(resident) == 2 and sum(resident.values()) == size
    assert all(0.4 * size < bytes_ < 0.6 * size for bytes_ in resident.values()), resident

    cluster.origin_ctl("reset")
    job = cluster.submit(f"srun bash -c '{digest(root)}; {STATE}'", *wanted)
    cluster.wait_done(job, 120)
    assert sorted(said(cluster, job)) == sorted([expected(root), f"{root}=partial"] * 2)
    assert cluster.origin_stats()["read_bytes"] == 0, "what the nodes hold together is all of it"
    assert cluster.receipt(job)["receipt"]["origin_bytes"] == 0


def test_an_array_over_four_nodes_reads_the_origin_once(cluster: Cluster) -> None:
    root, size = fresh(cluster, "array")
    cluster.origin_ctl("reset")
    job = cluster.submit(f"{digest(root)}; {STATE}; hostname; sleep 3", "--array=1-4", "--exclusive", *warm(root))
    tasks = [f"{job}_{task}" for task in range(1, 5)]
    wait_for(lambda: cluster.run("squeue", "-h", "-r", "-t", "all", "-j", str(job), "-o", "%T").check().out.split()
             == ["COMPLETED"] * 4, 120, "all tasks have run", 0.5)
    outputs = [said(cluster, task) for task in tasks]
    assert [lines[:2] for lines in outputs] == [[expected(root), f"{root}=complete"]] * 4
    assert len({lines[2] for lines in outputs}) == 4
    assert size <= cluster.origin_stats()["read_bytes"] <= 1.02 * size


def test_a_later_node_takes_all_of_it_from_those_that_hold_it(cluster: Cluster) -> None:
    root, size = fresh(cluster, "later")
    first = cluster.submit("true", "-w", "n001", *warm(root))
    cluster.wait_done(first)
    cluster.origin_ctl("reset")
    job = cluster.submit(f"{digest(root)}; {STATE}", "-w", "n002", *warm(root), user=USERS[1])
    cluster.wait_done(job)
    assert said(cluster, job) == [expected(root), f"{root}=complete"]
    assert cluster.origin_stats()["read_bytes"] == 0
    receipt = cluster.receipt(job)["receipt"]
    assert (receipt["origin_bytes"], receipt["peer_bytes"]) == (0, size)


def test_what_a_user_may_not_read_he_does_not_get_from_another_node(cluster: Cluster) -> None:
    root, _ = fresh(cluster, "private", 20)
    (root / "public").write_bytes(b"p" * 1000)
    first, second = USERS
    (root / "d0000").chmod(0o700)
    subprocess.run(["chown", "-R", first, root], check=True)
    cluster.wait_done(cluster.submit("true", "-w", "n001", *warm(root), user=first))
    job = cluster.submit(f"cat {root}/d0000/f000000 | wc -c; wc -c <{root}/public; {STATE}", "-w", "n002", *warm(root), user=second)
    cluster.wait_done(job)
    assert "Permission denied" in cluster.job_output(job)
    assert [line for line in said(cluster, job) if "denied" not in line] == ["0", "1000", f"{root}=complete"]
    receipt = cluster.receipt(job)["receipt"]
    assert (receipt["origin_bytes"], receipt["peer_bytes"]) == (1000, 0), "he is shown another tree, which nobody else has"
    resident = {row["node"]: row["bytes_resident"] for row in cluster.atlasctl("placement", str(root))}
    assert resident["n002"] == 1000


def test_a_node_whose_agent_stops_or_dies_holds_up_nobody(cluster: Cluster) -> None:
    root, size = fresh(cluster, "dies", 400, 200_000)
    cluster.origin_ctl("reset")
    cluster.origin_ctl("bandwidth", "8M")  # 10 s
    try:
        job = cluster.submit(f"srun bash -c '{digest(root)}; {STATE}'", "-N3", "-w", "n001,n002,n003", *warm(root))
        wait_for(lambda: cluster.origin_stats()["read_bytes"] > size // 8, 60, "they are at it", 0.05)
        cluster.kill_daemon("agent n003")
        wait_for(lambda: {r["node"]: r["state"] for r in cluster.atlasctl("placement", str(root))}.items()
                 >= {"n001": "complete", "n002": "complete"}.items(), 90, "the others have all of it", 0.2)
        # What the dead one was to read was divided again; what it had read and not yet given away is read twice.
        assert cluster.origin_stats()["read_bytes"] <= 2 * size
    finally:
        cluster.origin_ctl("bandwidth", "0")
        cluster.start_agent("n003")
    cluster.wait_done(job, 120)
    lines = said(cluster, job)
    assert lines.count(expected(root)) == 3
