"""No job is shown what the origin no longer has, or no longer shows to its user, whatever lies on the nodes."""

import json
import os
from pathlib import Path

import datasets
from cluster import USERS, Cluster, Settings, wait_for
from datasets import STATE, warm

# A walk vouches for 2 s: the tests need not wait for a minute to see what comes after that.
SETTINGS = Settings(nodes=3, atlas_extra='[warm]\nrevalidate = "2s"\n')
FIRST, SECOND = USERS


def dataset(cluster: Cluster, name: str, **files: str) -> Path:
    root = cluster.origin / name
    root.mkdir()
    for file, text in files.items():
        (root / file).write_text(text)
        os.chown(root / file, datasets.uid(FIRST), datasets.gid(FIRST))
    os.chown(root, datasets.uid(FIRST), datasets.gid(FIRST))
    return root


def output(cluster: Cluster, job: int) -> str:
    cluster.wait_done(job, 60)
    return cluster.job_output(job)


def holds(cluster: Cluster, root: Path, node: str) -> None:
    cluster.run("atlasctl", "dataset", "warm", str(root), "--node", node, user=FIRST, cwd="/tmp", timeout=60).check()


def old_walks(cluster: Cluster) -> None:
    """Lets the walks of before grow old: by Slurm's own clock, a job that sleeps."""
    cluster.wait_done(cluster.submit("sleep 3"), 60)


def test_a_job_that_waits_for_another_sees_what_that_one_wrote(cluster: Cluster) -> None:
    root = dataset(cluster, "pipeline", result="OLD")
    holds(cluster, root, "n001")
    first = cluster.submit(f"sleep 4; echo NEW > {root}/result")
    second = cluster.submit(f"cat {root}/result; {STATE}", "-d", f"afterok:{first}", *warm(root))
    out = output(cluster, second)
    assert "NEW" in out and "OLD" not in out, out
    assert f"{root}=complete" in out, "and it still waits for its data"


def test_a_held_job_sees_what_was_written_meanwhile(cluster: Cluster) -> None:
    root = dataset(cluster, "held", file="OLD")
    holds(cluster, root, "n002")
    job = cluster.submit(f"cat {root}/file", "--hold", *warm(root))
    old_walks(cluster)
    (root / "file").write_text("NEW")
    cluster.run("scontrol", "release", str(job)).check()
    assert "NEW" in output(cluster, job)


def test_a_node_with_an_older_copy_does_not_show_it(cluster: Cluster) -> None:
    root = dataset(cluster, "older", file="GEN1")
    holds(cluster, root, "n001")
    (root / "file").write_text("GEN2")
    holds(cluster, root, "n002")
    old_walks(cluster)
    for options in (["-w", "n001", f"--atlas-dataset={root}"], ["-w", "n001", f"--atlas-dataset={root}", "--atlas-warm=overlap"]):
        assert "GEN2" in output(cluster, cluster.submit(f"cat {root}/file", *options))


def test_a_file_that_was_closed_is_refused_on_every_node(cluster: Cluster) -> None:
    root = dataset(cluster, "closed", open="for all", secret="SECRET")
    holds(cluster, root, "n001")
    (root / "secret").chmod(0o600)
    job = cluster.submit(f"cat {root}/open {root}/secret; true", "-w", "n001", *warm(root), user=SECOND)
    out = output(cluster, job)
    assert "for all" in out and "SECRET" not in out and "ermission denied" in out, out


def test_a_heterogeneous_job_runs_although_its_data_is_on_one_node(cluster: Cluster) -> None:
    root = dataset(cluster, "het", file="x")
    holds(cluster, root, "n001")
    script = cluster.state / "jobs" / "het.sh"
    script.write_text(f"#!/bin/bash\ncat {root}/file\n")
    for options in ([f"--atlas-dataset={root}"], [f"--atlas-dataset={root}", "--atlas-warm"]):
        done = cluster.run("sbatch", "--parsable", "-o", "/dev/null", "-n1", *options, ":", "-n1", str(script), user=FIRST, cwd="/tmp")
        job = int(done.check().out.split(";")[0])
        cluster.wait_done(job, 60)


def test_whoever_asks_again_after_a_scancel_does_not_inherit_it(cluster: Cluster) -> None:
    root = cluster.origin / "again"
    datasets.small_files(root, 60, 50_000)
    cluster.origin_ctl("bandwidth", "200K")
    try:
        first = cluster.submit(STATE, "-w", "n003", *warm(root))
        before = cluster.origin_stats()["read_bytes"]
        wait_for(lambda: cluster.origin_stats()["read_bytes"] > before, 20, "bytes are coming")
        cluster.run("scancel", str(first)).check()
        second = cluster.submit(STATE, "-w", "n003", *warm(root))
    finally:
        cluster.origin_ctl("bandwidth", "0")
    assert f"{root}=complete" in output(cluster, second)


def test_a_name_of_ones_own_opens_nothing(cluster: Cluster) -> None:
    root = dataset(cluster, "private", file="x")
    root.chmod(0o700)
    holds(cluster, root, "n001")
    cluster.run("atlasctl", "dataset", "create", f"~{SECOND}/p", str(root), user=SECOND)
    shown = json.loads(cluster.run("atlasctl", "dataset", "show", f"~{SECOND}/p", "--json", user=SECOND).check().out)
    shown = shown[0] if isinstance(shown, list) else shown
    assert (shown["name"], shown["path"], shown["state"]) == (f"~{SECOND}/p", str(root), "unknown"), "what he said himself"
    assert (shown["nodes"], shown["cached_bytes"]) == ("", 0), "and nothing of the data"
    assert cluster.run("atlasctl", "evict", str(root), user=SECOND).code == 1
    assert str(root) not in cluster.run("atlasctl", "placement", user=SECOND).out
    explained = cluster.run("atlas-submit", "--explain", "--dataset", str(root), "--wrap", "true", user=SECOND, cwd="/tmp")
    assert explained.code != 0 and "n001" not in explained.out
