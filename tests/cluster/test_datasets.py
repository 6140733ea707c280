"""What owners settle about their datasets, and what jobs want when data changes, as users see it."""

import os
from pathlib import Path

import datasets
from cluster import GROUP, USERS, Cluster, Settings, wait_for
from datasets import STATE, warm

SETTINGS = Settings(nodes=2)
FIRST, SECOND = USERS


def own(path: Path, mode: int, user: str = FIRST) -> None:
    os.chown(path, datasets.uid(user), datasets.gid(user))
    path.chmod(mode)


def dataset(cluster: Cluster, name: str, mode: int = 0o755, **files: str) -> Path:
    root = cluster.origin / name
    root.mkdir()
    for file, text in files.items():
        (root / file).write_text(text)
        own(root / file, 0o600 if mode == 0o700 else 0o644)
    own(root, mode)
    return root


def ctl(cluster: Cluster, *words: object, user: str = FIRST) -> str:
    return cluster.run("atlasctl", *map(str, words), user=user, cwd="/tmp", timeout=60).check().out


def output(cluster: Cluster, job: int) -> str:
    cluster.wait_done(job, 60)
    return cluster.job_output(job)


def holders(cluster: Cluster, root: Path) -> list[str]:
    rows = cluster.atlasctl("placement", str(root))
    return sorted(row["node"] for row in rows if row["state"] == "complete")


def test_a_users_own_change_is_seen_by_his_next_job(cluster: Cluster) -> None:
    root = dataset(cluster, "own", file="OLD")
    assert "OLD" in output(cluster, cluster.submit(f"cat {root}/file", "-w", "n001", *warm(root)))
    (root / "file").write_text("NEW")
    for options in ((), ("--atlas-warm",), ("--atlas-on-change=refresh",)):
        out = output(cluster, cluster.submit(f"cat {root}/file", "-w", "n001", f"--atlas-dataset={root}", *options))
        assert "NEW" in out and "OLD" not in out, out


def test_a_job_that_shall_fail_on_a_change_does_not_start_and_harms_nobody(cluster: Cluster) -> None:
    root = dataset(cluster, "failing", file="OLD")
    ctl(cluster, "dataset", "warm", root, "--node", "n001")
    options = ("-w", "n001", f"--atlas-dataset={root}", "--atlas-on-change=fail")
    assert "OLD" in output(cluster, cluster.submit(f"cat {root}/file", *options))

    job = cluster.submit(f"cat {root}/file; echo started", "--hold", *options)
    wait_for(lambda: "surveyed" if any(j["job_id"] == job for j in cluster.atlasctl("job", "list")) else None, what="the job is known")
    # What it is at submit is on record once another job, submitted later, has been staged and has run.
    output(cluster, cluster.submit("true", *options))
    (root / "file").write_text("NEW")
    cluster.run("scontrol", "release", str(job)).check()
    cluster.wait_done(job, 60, expect="FAILED")
    out = cluster.job_output(job)
    assert "does not start" in out and "has changed" in out and "started" not in out, out
    assert "NEW" in output(cluster, cluster.submit(f"cat {root}/file", *options)), "for one submitted after it, nothing has changed"


def test_a_job_that_keeps_reads_the_older_copy_of_its_node(cluster: Cluster) -> None:
    root = dataset(cluster, "keeping", file="OLD")
    ctl(cluster, "dataset", "warm", root, "--node", "n001")
    (root / "file").write_text("NEW")
    out = output(cluster, cluster.submit(f"cat {root}/file; {STATE}", "-w", "n001", f"--atlas-dataset={root}", "--atlas-on-change=keep"))
    assert "OLD" in out and f"{root}=complete" in out, out


def test_checkpoints_inside_a_dataset_stay_the_origins(cluster: Cluster) -> None:
    root = dataset(cluster, "training", file="data")
    (root / "checkpoints").mkdir()
    own(root / "checkpoints", 0o755)
    ctl(cluster, "dataset", "set", root, "--exclude", "checkpoints/", "--exclude", "*.tmp")
    shown = ctl(cluster, "dataset", "create", f"~{FIRST}/training", root) + ctl(cluster, "dataset", "show", f"~{FIRST}/training")
    assert "exclude=checkpoints/" in shown, shown
    for step in (1, 2):
        script = f"cat {root}/file; echo x > {root}/checkpoints/{step}; touch {root}/file2 || echo read-only; ls {root}/checkpoints; {STATE}"
        out = output(cluster, cluster.submit(script, "-w", "n001", *warm(root)))
        assert f"{root}=complete" in out and "read-only" in out, out
        assert out.count("\n1\n") == 1 and (step == 1 or "\n2\n" in out), "the second job sees what the first one wrote"
        assert (root / "checkpoints" / str(step)).read_text() == "x\n"
        (root / f"{step}.tmp").write_text("left out")
    rows = [row for row in cluster.atlasctl("placement", str(root)) if row["node"] == "n001"]
    assert len(rows) == 1, "no generation for what is excluded"


def test_settings_are_for_owners_and_operators(cluster: Cluster) -> None:
    root = dataset(cluster, "settled", file="OLD")
    refused = cluster.run("atlasctl", "dataset", "set", str(root), "--revalidate", "never", user=SECOND, cwd="/tmp")
    assert refused.code != 0 and "owner" in refused.err, refused.err
    assert "revalidate=never" in ctl(cluster, "dataset", "set", root, "--revalidate", "never")
    ctl(cluster, "dataset", "warm", root, "--node", "n001")
    (root / "file").write_text("NEW")
    script = f"cat {root}/file"
    assert "OLD" in output(cluster, cluster.submit(script, "-w", "n001", f"--atlas-dataset={root}"))
    assert "NEW" in output(cluster, cluster.submit(script, "-w", "n001", f"--atlas-dataset={root}", user=SECOND)), "never shown it before"
    ctl(cluster, "dataset", "set", root, "--revalidate", "always", user="root")
    assert "NEW" in output(cluster, cluster.submit(script, "-w", "n001", f"--atlas-dataset={root}"))
    for bad in (["--tier", "tape"], ["--revalidate", "sometimes"], ["--exclude", "../x"]):
        assert cluster.run("atlasctl", "dataset", "set", str(root), *bad, user=FIRST, cwd="/tmp").code != 0, bad


def test_a_part_is_warmed_and_read_through(cluster: Cluster) -> None:
    root = dataset(cluster, "parts", a="A", b="B", c="C")
    names = cluster.origin / "names"
    names.write_text("./b\n\n")
    ctl(cluster, "dataset", "warm", root, "--node", "n002", "--path", "a", "--files-from", names)
    (row,) = cluster.atlasctl("placement", str(root))
    assert (row["node"], row["state"], row["files_resident"]) == ("n002", "partial", 2)
    ctl(cluster, "dataset", "warm", root, "--node", "n001", "--metadata-only")
    out = output(cluster, cluster.submit(f"cat {root}/*; {STATE}", "-w", "n001", f"--atlas-dataset={root}", "--atlas-on-change=keep"))
    assert "ABC" in out, out


def test_replicas_are_made_and_unused_ones_go(cluster: Cluster) -> None:
    root = dataset(cluster, "spread", file="x")
    ctl(cluster, "dataset", "set", root, "--replicas", 2)
    ctl(cluster, "dataset", "warm", root, "--node", "n001")
    wait_for(lambda: holders(cluster, root) == ["n001", "n002"], 40, "two nodes hold it")
    ctl(cluster, "dataset", "set", root, "--replicas", 0, "--ttl", "1s")
    wait_for(lambda: holders(cluster, root) == [], 40, "nobody has used it for a second")


def test_a_dataset_is_shared_with_a_group_and_no_more(cluster: Cluster) -> None:
    root = dataset(cluster, "private", mode=0o700, file="SECRET")
    name = f"~{FIRST}/private"
    ctl(cluster, "dataset", "create", name, root)
    ctl(cluster, "dataset", "warm", root, "--node", "n001")

    def read() -> str:
        return output(cluster, cluster.submit(f"cat {root}/file; {STATE}; true", "-w", "n001", f"--atlas-dataset={name}", user=SECOND))

    assert "SECRET" not in read(), "without a grant the origin's permissions are the law"
    refused = cluster.run("atlasctl", "dataset", "share", name, "--group", GROUP, user=SECOND, cwd="/tmp")
    assert refused.code != 0 and "owner" in refused.err, refused.err
    ctl(cluster, "dataset", "share", name, "--group", GROUP)
    out = read()
    assert "SECRET" in out and f"{root}=complete" in out, out
    out = output(cluster, cluster.submit(f"cat {root}/file; true", "-w", "n002", f"--atlas-dataset={name}", user=SECOND))
    assert "SECRET" not in out and "shared with you" in out, "nothing is read from the origin by the owner's rights"
    assert f"with group {GROUP}" in ctl(cluster, "dataset", "show", name, user=FIRST)
    ctl(cluster, "dataset", "share", name, "--group", GROUP, "--remove")
    assert "SECRET" not in read()
    log = cluster.log_tail("controller", 1000)
    assert f"{FIRST} shared {root}" in log and f"{FIRST} no longer shares {root}" in log
