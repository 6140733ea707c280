"""One job, end to end: its data is warmed, it starts where the data is, and it sees exactly what the origin holds."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

import datasets
from cluster import SUPPORT, USERS, Cluster, Settings, wait_for
from datasets import STATE, warm

SETTINGS = Settings(nodes=3, origin_latency=0.2)
FILES, SIZE = 400, 50_000
FIRST, SECOND = USERS


@pytest.fixture(scope="module")
def speech(cluster: Cluster) -> Path:
    """A dataset that every user may read."""
    root = cluster.origin / "speech"
    datasets.small_files(root, FILES, SIZE)
    return root


def hashes(root: Path) -> str:
    return f'cd "{root}" && find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum'


def told(cluster: Cluster, job: int) -> str:
    """What Atlas wrote at the start of the job's error output, which goes where its output goes."""
    return "\n".join(line for line in cluster.job_output(job).splitlines() if line.startswith("atlas:"))


def content(cluster: Cluster, job: int) -> str:
    return "\n".join(line for line in cluster.job_output(job).splitlines() if not line.startswith("atlas:"))


def test_atlas_submit_warms_the_cache_and_a_second_job_reads_from_its_node(cluster: Cluster, speech: Path) -> None:
    expected = subprocess.run(["bash", "-c", hashes(speech)], capture_output=True, text=True, check=True).stdout
    script = f'{hashes(speech)}\necho "state $ATLAS_CACHE_STATE"'
    # n001 is busy at first: the second job would land there if it were Slurm's choice alone.
    busy = cluster.submit("sleep 300", "-w", "n001", "--exclusive", user=SECOND)
    cluster.wait_state(busy, "RUNNING")

    cluster.origin_ctl("reset")
    first = cluster.submit(script, "--dataset", str(speech), "--cache", "2G", "--warm", command="atlas-submit")
    node = cluster.wait_done(first, 90)["NodeList"]
    stats = cluster.origin_stats()
    assert content(cluster, first).splitlines() == [*expected.splitlines(), f"state {speech}=complete"]
    # A page may be dropped by the kernel between its read ahead and its copy.
    assert FILES * SIZE <= stats["read_bytes"] <= 1.001 * FILES * SIZE, "each byte is read from the origin once"
    assert node != "n001"
    receipt = cluster.receipt(first)["receipt"]
    assert (receipt["nodes"], receipt["outcome"]) == (node, "warm")
    assert receipt["resident_bytes"] == receipt["origin_bytes"] == FILES * SIZE

    cluster.run("scancel", str(busy)).check()
    cluster.wait_state(busy, "CANCELLED")
    cluster.origin_ctl("reset")
    directives = f"#!/bin/bash\n#SBATCH --atlas-dataset={speech}\n#SBATCH --atlas-cache=2G\n#SBATCH --atlas-warm\n"
    second = cluster.submit(directives + script, user=SECOND)
    assert cluster.wait_done(second)["NodeList"] == node
    assert content(cluster, second) == content(cluster, first)
    assert cluster.origin_stats()["read_bytes"] == 0
    receipt = cluster.receipt(second)["receipt"]
    assert (receipt["outcome"], receipt["origin_bytes"], receipt["resident_bytes"]) == ("warm", 0, FILES * SIZE)

    rows = cluster.atlasctl("placement", str(speech), user=FIRST)
    assert [(row["node"], row["state"], row["bytes_resident"]) for row in rows] == [(node, "complete", FILES * SIZE)]


def test_a_job_without_atlas_options_gets_nothing_of_atlas(cluster: Cluster, speech: Path) -> None:
    cluster.origin_ctl("reset")
    job = cluster.submit(f"env; cat /proc/self/mountinfo; cat {speech}/d0000/f000000 >/dev/null")
    cluster.wait_done(job)
    lines = cluster.job_output(job).splitlines()
    assert not [line for line in lines if line.startswith(("ATLAS_CACHE", "SLURM_SPANK_ATLAS", "ATLAS_REQ"))]
    assert not [line for line in lines if f" {speech} " in line]
    assert cluster.origin_stats()["read_bytes"] == SIZE
    assert not [j for j in cluster.atlasctl("job", "list", "--all") if j["job_id"] == job]


def test_srun_and_salloc_take_the_options_and_steps_see_the_cache(cluster: Cluster, speech: Path) -> None:
    cluster.wait_done(cluster.submit("true", *warm(speech)))
    look = f'{STATE}; findmnt -n -o OPTIONS -T "{speech}/d0000"'
    for argv in (["srun", f"--atlas-dataset={speech}", "--atlas-warm=wait", "bash", "-c", look],
                 ["salloc", "--quiet", f"--atlas-dataset={speech}", "--atlas-warm=wait", "srun", "bash", "-c", look]):
        done = cluster.run(*argv, user=FIRST, cwd="/tmp").check()
        state, options = done.out.splitlines()[-2:]
        assert state == f"{speech}=complete", done
        assert {"ro", "nosuid", "nodev"} <= set(options.split(",")), done


def test_batch_script_and_steps_share_one_namespace_of_their_own(cluster: Cluster, speech: Path) -> None:
    job = cluster.submit(f"readlink /proc/self/ns/mnt; srun -n2 --overlap readlink /proc/self/ns/mnt; hostname",
                         "-n2", "-N1", *warm(speech))
    cluster.wait_done(job)
    *namespaces, node = content(cluster, job).splitlines()
    assert len(namespaces) == 3 and len(set(namespaces)) == 1, namespaces
    assert cluster.sh("readlink /proc/self/ns/mnt", node=node).out.strip() != namespaces[0]


def test_a_dataset_that_is_one_file(cluster: Cluster) -> None:
    file = cluster.origin / "ocr" / "data.mdb"
    datasets.big_file(file, 70_000_000)
    beside = cluster.origin / "ocr" / "beside"
    beside.write_text("not part of it")
    cluster.origin_ctl("reset")
    job = cluster.submit(f'sha256sum "{file}"; cat "{beside}"; {STATE}', *warm(file))
    cluster.wait_done(job)
    digest = subprocess.run(["sha256sum", file], capture_output=True, text=True, check=True).stdout.strip()
    assert content(cluster, job).splitlines() == [digest, f"not part of it{file}=complete"]
    # Three pieces of 32 MiB are read side by side; the kernel may read ahead past the end of each, at most 1 MiB.
    asked = 70_000_000 + len("not part of it")
    assert asked <= cluster.origin_stats()["read_bytes"] <= asked + (14 << 20)


def test_without_warm_the_job_starts_at_once_and_the_cache_fills_while_it_runs(cluster: Cluster) -> None:
    root = cluster.origin / "later"
    datasets.small_files(root, 50, 10_000, seed=5)
    cluster.origin_ctl("bandwidth", "50K")  # the cache is not full by the time the job attaches
    try:
        job = cluster.submit(f'{hashes(root)}; {STATE}; sleep 60', f"--atlas-dataset={root}")
        fields = cluster.wait_state(job, "RUNNING", timeout=15)
        wait_for(lambda: "atlas:" in cluster.job_output(job), 20, "it is told what it has")
    finally:
        cluster.origin_ctl("bandwidth", "0")
    wait_for(lambda: f"{root}=partial" in cluster.job_output(job), 20, "the job reads through the cache and says so")
    wait_for(lambda: [r["state"] for r in cluster.atlasctl("placement", str(root))] == ["complete"], 30, "the cache fills")
    assert cluster.atlasctl("placement", str(root))[0]["node"] == fields["NodeList"]
    assert content(cluster, job).splitlines()[-1] == f"{root}=partial", "what a job sees never changes"
    cluster.run("scancel", str(job)).check()


@pytest.fixture(scope="module")
def probe_script(cluster: Cluster) -> Path:
    """Where every user can read it, inside and outside."""
    return Path(shutil.copy(SUPPORT / "tree_probe.py", cluster.state / "lib"))


def probe(script: Path, root: Path, user: str) -> dict:
    """The tree as `user` sees it at the origin itself."""
    done = subprocess.run(["setpriv", "--reuid", user, "--regid", str(datasets.gid(user)), "--init-groups",
                           "/usr/bin/python3", "-B", script, root], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def seen_by_job(cluster: Cluster, script: Path, root: Path, user: str) -> tuple[str, dict]:
    job = cluster.submit(f'{STATE}; /usr/bin/python3 -B {script} "{root}"',
                         *warm(root), user=user)
    cluster.wait_done(job, 120)
    state, _, tree = content(cluster, job).partition("\n")
    return state, json.loads(tree)


def differences(expected: dict, seen: dict) -> list[str]:
    found = []
    for path in sorted(expected["entries"].keys() | seen["entries"].keys()):
        want, got = expected["entries"].get(path, {}), seen["entries"].get(path, {})
        found += [f"{path}: {key} is {got.get(key)!r}, at the origin {want.get(key)!r}"
                  for key in sorted(want.keys() | got.keys()) if want.get(key) != got.get(key)]
    if expected["peers"] != seen["peers"]:
        found.append(f"hard links: {seen['peers']}, at the origin {expected['peers']}")
    return found


def test_what_a_job_sees_equals_the_origin_for_a_nasty_tree(cluster: Cluster, probe_script: Path) -> None:
    root = cluster.origin / "nasty"
    datasets.nasty_tree(root)
    before = {user: probe(probe_script, root, user) for user in USERS}
    state, tree = seen_by_job(cluster, probe_script, root, FIRST)
    assert differences(before[FIRST], tree) == []
    assert state == f"{root}=complete"
    # The second user may read files that the first one may not: what the first one's warm-up could not copy must neither be
    # hidden from him nor look empty, whether he gets it from a node or from the origin.
    state, tree = seen_by_job(cluster, probe_script, root, SECOND)
    assert differences(before[SECOND], tree) == []
    assert {user: probe(probe_script, root, user) for user in USERS} == before, "reading changed the origin"
    holder = next(r["node"] for r in cluster.atlasctl("placement", str(root)) if r["state"] == "complete")
    used = int(cluster.sh(f"du -s --block-size=1M {cluster.store(holder)} | cut -f1").out)
    assert used < 500, f"a hole of 3 GiB takes room in the store: {used} MiB"


def test_a_changed_dataset_is_seen_by_the_next_job_and_not_by_the_running_one(cluster: Cluster) -> None:
    root = cluster.origin / "changing"
    root.mkdir()
    (root / "a").write_text("old")
    (root / "same").write_text("unchanged")
    go = cluster.state / "jobs" / "go"
    job = cluster.submit(f'cat {root}/a; until [ -e {go} ]; do sleep 0.1; done; cat {root}/a {root}/same',
                         *warm(root))
    cluster.wait_state(job, "RUNNING")
    wait_for(lambda: content(cluster, job) == "old", 20, "the job has read the old file")
    (root / "a").write_text("new, longer")
    (root / "b").write_text("added")
    cluster.run("atlasctl", "dataset", "warm", str(root), user=FIRST).check()
    later = cluster.submit(f"cd {root} && cat a b same", *warm(root))
    cluster.wait_done(later)
    assert content(cluster, later) == "new, longeraddedunchanged"
    go.touch()
    cluster.wait_done(job)
    assert content(cluster, job) == "oldoldunchanged"


def test_a_setuid_file_of_the_origin_gives_nobody_another_identity(cluster: Cluster) -> None:
    root = cluster.origin / "setuid"
    root.mkdir()
    tool = root / "id"
    tool.write_bytes(Path("/usr/bin/id").read_bytes())
    tool.chmod(0o4755)
    job = cluster.submit(f"{tool} -u", *warm(root))
    cluster.wait_done(job)
    assert content(cluster, job).strip() == str(datasets.uid(FIRST))


def test_the_cache_is_read_only_to_the_job_and_the_store_closed_to_users(cluster: Cluster, speech: Path) -> None:
    job = cluster.submit(f"touch {speech}/new 2>&1; echo x >{speech}/d0000/f000000; ls {cluster.store('n001')} 2>&1; true",
                         *warm(speech))
    cluster.wait_done(job)
    out = content(cluster, job)
    assert out.count("Read-only file system") + out.count("Permission denied") == 3, out
    assert not (speech / "new").exists()
    assert (speech / "d0000" / "f000000").stat().st_size == SIZE


@pytest.mark.parametrize("command", ["sbatch", "srun"])
def test_the_environment_cannot_forge_a_request(cluster: Cluster, speech: Path, command: str) -> None:
    secret = cluster.origin / f"secret-{command}"
    secret.mkdir(mode=0o700)
    (secret / "key").write_text("secret")
    forged = {name: f"v1,d={secret},w=wait" for name in ("ATLAS_REQ", "SPANK_ATLAS_REQ", "SLURM_SPANK_ATLAS_REQ")}
    look = f"cat {secret}/key; true"
    if command == "sbatch":
        job = cluster.submit(look, env=forged)
        cluster.wait_done(job)
        out = cluster.job_output(job)
    else:
        done = cluster.run("srun", "bash", "-c", look, user=FIRST, cwd="/tmp", env=forged)
        out = done.out + done.err
    assert "Permission denied" in out and "secret\n" not in out
    assert os.listdir(secret) == ["key"]
