"""What a user may not read at the origin he does not read from the cache either, and no mount goes where it should not."""

import os
from pathlib import Path

import datasets
from cluster import USERS, Cluster, Settings
from datasets import STATE, warm

SETTINGS = Settings(nodes=1)
FIRST, SECOND = USERS


def own(path: Path, user: str, mode: int) -> None:
    os.chown(path, datasets.uid(user), datasets.gid(user))
    path.chmod(mode)


def dataset(cluster: Cluster, name: str, user: str, mode: int) -> Path:
    root = cluster.origin / name
    root.mkdir(parents=True)
    (root / "file").write_text(f"data of {name}")
    own(root / "file", user, 0o644)
    own(root, user, mode)
    return root


def warm_up(cluster: Cluster, root: Path, user: str) -> None:
    job = cluster.submit(f'cat {root}/file; echo; {STATE}', *warm(root), user=user)
    cluster.wait_done(job)
    assert f"data of {root.relative_to(cluster.origin)}\n{root}=complete" in cluster.job_output(job)


def test_another_users_private_dataset_is_refused_at_submit_though_it_is_warm(cluster: Cluster) -> None:
    root = dataset(cluster, "private", SECOND, 0o700)
    warm_up(cluster, root, SECOND)
    done = cluster.run("sbatch", f"--atlas-dataset={root}", "--wrap", f"cat {root}/file", user=FIRST, cwd="/tmp")
    assert done.code != 0 and done.out == ""
    assert str(root) in done.err and "ermission denied" in done.err
    assert cluster.run("squeue", "-h").out == ""
    assert "private" not in cluster.run("atlasctl", "placement", user=FIRST).check().out, "not even its name is told"


def test_a_dataset_closed_between_submit_and_start_gives_permission_denied_not_data(cluster: Cluster) -> None:
    root = dataset(cluster, "closing", SECOND, 0o755)
    warm_up(cluster, root, SECOND)
    job = cluster.submit(f"cat {root}/file; ls {root}; findmnt {root}; true", "--hold", *warm(root), user=FIRST)
    root.chmod(0o700)
    cluster.run("scontrol", "release", str(job)).check()
    cluster.wait_done(job)
    out = cluster.job_output(job)
    assert out.count("Permission denied") >= 2, out
    assert "data of" not in out


def test_a_dataset_below_a_directory_that_was_closed_gives_permission_denied(cluster: Cluster) -> None:
    parent = cluster.origin / "project"
    root = dataset(cluster, "project/set", SECOND, 0o755)
    own(parent, SECOND, 0o755)
    warm_up(cluster, root, SECOND)
    job = cluster.submit(f"cat {root}/file; true", "--hold", *warm(root), user=FIRST)
    parent.chmod(0o700)
    cluster.run("scontrol", "release", str(job)).check()
    cluster.wait_done(job)
    out = cluster.job_output(job)
    assert "Permission denied" in out and "data of" not in out, out


def test_a_file_closed_after_the_warm_up_is_refused(cluster: Cluster) -> None:
    root = dataset(cluster, "file-closing", SECOND, 0o755)
    warm_up(cluster, root, SECOND)
    (root / "file").chmod(0o600)
    cluster.run("atlasctl", "dataset", "warm", str(root), user=SECOND).check()  # the change is observed
    job = cluster.submit(f"cat {root}/file; true", *warm(root), user=FIRST)
    cluster.wait_done(job)
    out = cluster.job_output(job)
    assert "Permission denied" in out and "data of" not in out, out


def test_a_symlink_swapped_in_after_submit_never_covers_another_path(cluster: Cluster) -> None:
    victim = dataset(cluster, "victim", SECOND, 0o755)
    home = cluster.origin / "home1"
    home.mkdir()
    own(home, FIRST, 0o755)
    for name, target in (("inside", victim), ("outside", Path("/etc"))):
        mine = home / name
        mine.mkdir()
        (mine / "file").write_text("data of mine")
        own(mine / "file", FIRST, 0o644)
        own(mine, FIRST, 0o755)
        cluster.wait_done(cluster.submit("true", *warm(mine)))
        job = cluster.submit(f"cat {victim}/file; cut -d' ' -f5 /proc/self/mountinfo", "--hold", *warm(mine))
        mine.rename(home / f"{name}-away")
        mine.symlink_to(target)
        cluster.run("scontrol", "release", str(job)).check()
        cluster.wait_done(job)
        out = cluster.job_output(job)
        assert "data of victim" in out and "data of mine" not in out, out
        points = out.splitlines()
        assert str(victim) not in points and str(target) not in points and str(mine) not in points, out


def test_a_parent_swapped_for_a_symlink_never_covers_another_path(cluster: Cluster) -> None:
    victim = dataset(cluster, "tree/victim", SECOND, 0o755)
    home = cluster.origin / "home2"
    (home / "victim").mkdir(parents=True)
    (home / "victim" / "file").write_text("data of mine")
    own(home, FIRST, 0o755)
    mine = home / "victim"
    cluster.wait_done(cluster.submit("true", *warm(mine), user=FIRST))
    job = cluster.submit(f"cat {victim}/file; cut -d' ' -f5 /proc/self/mountinfo", "--hold", *warm(mine), user=FIRST)
    home.rename(cluster.origin / "home2-away")
    home.symlink_to(cluster.origin / "tree")
    cluster.run("scontrol", "release", str(job)).check()
    cluster.wait_done(job)
    out = cluster.job_output(job)
    assert "data of tree/victim" in out and str(victim) not in out.splitlines(), out
