"""Programs that are particular about their files, on complete and on partial replicas: LMDB, Python environments, git, PyTorch."""

import hashlib
import shutil
import subprocess
from pathlib import Path

import lmdb
import pytest

import datasets
from cluster import USERS, Cluster, Settings, wait_for
from datasets import warm

SETTINGS = Settings(nodes=1)
FIRST, SECOND = USERS
SOUNDS = Path("/usr/share/asterisk/sounds")  # of the packages asterisk-core-sounds-*-wav
TORCH = Path("/usr/lib/python3/dist-packages/torch")


def give(root: Path, user: str) -> None:
    subprocess.run(["chown", "-R", f"{user}:{user}", root], check=True)


def hold(cluster: Cluster, root: Path, user: str = FIRST) -> None:
    cluster.run("atlasctl", "dataset", "warm", str(root), "--node", "n001", user=user, cwd="/tmp").check()


def partial(root: Path, keep: int) -> list[str]:
    """The options of a job whose node keeps only so much of it: the replica stays partial for good."""
    return [f"--atlas-dataset={root}", f"--atlas-cache={keep}"]


def said(cluster: Cluster, script: str, *options: str, state: str, user: str = FIRST, cwd: str = "/tmp") -> list[str]:
    """What a job says whose datasets are all in that state."""
    job = cluster.submit(f'{script}\necho "${{ATLAS_CACHE_STATE##*=}}"', *options, user=user, cwd=cwd)
    cluster.wait_done(job, 90)
    lines = [line for line in cluster.job_output(job).splitlines() if not line.startswith("atlas:")]
    assert lines[-1:] == [state], cluster.job_output(job)
    return lines[:-1]


# ---- LMDB -------------------------------------------------------------------------------------------------------------

READ_LMDB = """import hashlib, lmdb, sys
path, subdir = sys.argv[1], sys.argv[2] == "dir"
digest = hashlib.sha256()
with lmdb.open(path, subdir=subdir, readonly=True) as env, env.begin() as txn:
    for key, value in txn.cursor():
        digest.update(key + value)
    print(env.stat()["entries"], digest.hexdigest())
"""


def make_lmdb(path: Path, subdir: bool, entries: int = 3000) -> str:
    digest = hashlib.sha256()
    with lmdb.open(str(path), subdir=subdir, map_size=64 << 20) as env, env.begin(write=True) as txn:
        for number in range(entries):
            key, value = b"%08d" % number, hashlib.sha256(b"%d" % number).digest() * 60
            txn.put(key, value)
            digest.update(key + value)
    return f"{entries} {digest.hexdigest()}"


def databases(root: Path) -> list[str]:
    """A database in a directory and one without, both with the lock file that their writer left; what readers must say."""
    root.mkdir()
    expected = [make_lmdb(root / "dir", True), make_lmdb(root / "single", False)]
    give(root, FIRST)
    for lock in (root / "dir" / "lock.mdb", root / "single-lock"):
        assert lock.stat().st_size > 0
        lock.chmod(0o644)
    return expected


def read_databases(cluster: Cluster, root: Path) -> str:
    script = cluster.state / "jobs" / "read_lmdb.py"
    script.write_text(READ_LMDB)
    return f"""/usr/bin/python3 {script} {root}/dir dir
/usr/bin/python3 {script} $ATLAS_ROOT/{root.name}/single file
mdb_stat -e {root}/dir | grep -c 'Number of readers used'
mdb_stat {root}/dir | grep Entries
mdb_dump -n {root}/single | sha256sum | cut -c-64"""


def dumped(root: Path) -> list[str]:
    dump = subprocess.run(["mdb_dump", "-n", root / "single"], capture_output=True, check=True).stdout
    return ["1", "  Entries: 3000", hashlib.sha256(dump).hexdigest()]


@pytest.mark.parametrize("user", USERS)
def test_lmdb_readers_of_a_complete_replica_read_no_byte_from_the_origin(cluster: Cluster, user: str) -> None:
    root = cluster.origin / f"lmdb-{user}"
    expected = databases(root) + dumped(root)
    hold(cluster, root, user)
    cluster.origin_ctl("reset")
    assert said(cluster, read_databases(cluster, root), f"--atlas-dataset={root}", user=user, state="complete") == expected
    assert cluster.origin_stats()["read_bytes"] == 0


@pytest.mark.parametrize("user", USERS)
def test_lmdb_readers_of_a_partial_replica(cluster: Cluster, user: str) -> None:
    root = cluster.origin / f"partial-lmdb-{user}"
    expected = databases(root) + dumped(root)
    assert said(cluster, read_databases(cluster, root), *partial(root, 4 << 20), user=user, state="partial") == expected


def test_processes_of_a_job_see_each_others_locks_and_other_jobs_do_not(cluster: Cluster) -> None:
    root = cluster.origin / "locks"
    databases(root)
    hold(cluster, root)
    go = cluster.state / "jobs" / "go-locks"
    holder = cluster.submit(f"""exec 9<>{root}/single-lock; flock -n 9 && echo first
flock -n $ATLAS_ROOT/locks/single-lock true || echo busy
srun flock -n {root}/single-lock true 2>/dev/null || echo busy
until [ -e {go} ]; do sleep 0.1; done""", f"--atlas-dataset={root}", "-n1")
    wait_for(lambda: cluster.job_output(holder).endswith("first\nbusy\nbusy\n"), 30, "one process of the job holds the lock")
    assert said(cluster, f"flock -n {root}/single-lock echo locked", f"--atlas-dataset={root}", "-n1", state="complete") == ["locked"]
    go.touch()
    cluster.wait_done(holder)


# ---- Python environments ----------------------------------------------------------------------------------------------

MODULES = 60


@pytest.fixture(scope="module")
def environment(cluster: Cluster) -> Path:
    """A virtual environment with bin/python (a link to the system's), one with a copy of it, and a package in both."""
    root = cluster.origin / "env"
    for name, how in (("linked", "--symlinks"), ("copied", "--copies")):
        subprocess.run(["/usr/bin/python3", "-m", "venv", "--without-pip", how, root / name], check=True)
        package = next((root / name).glob("lib/python3*/site-packages")) / "acoustics"
        package.mkdir()
        for number in range(MODULES):
            (package / f"m{number}.py").write_text(f"value = {number}\n")
        imports = "".join(f"from . import m{number}\n" for number in range(MODULES))
        (package / "__init__.py").write_text(f"{imports}total = sum(m.value for m in ({', '.join(f'm{n}' for n in range(MODULES))}))\n")
        subprocess.run([root / name / "bin" / "python", "-m", "compileall", "-q", package], check=True)
        tool = root / name / "bin" / "acoustics"
        tool.write_text(f"#!{root}/{name}/bin/python\nimport acoustics, sys\nprint(acoustics.total, sys.prefix, acoustics.__file__)\n")
        tool.chmod(0o755)
    return root


def tools_say(root: Path) -> list[str]:
    version = next((root / "linked" / "lib").iterdir()).name
    return [f"{sum(range(MODULES))} {root}/{name} {root}/{name}/lib/{version}/site-packages/acoustics/__init__.py" for name in ("linked", "copied")]


def test_a_virtual_environment_in_batch_srun_and_salloc(cluster: Cluster, environment: Path) -> None:
    hold(cluster, environment)
    tools = f"{environment}/linked/bin/acoustics; . {environment}/copied/bin/activate; acoustics"
    cluster.origin_ctl("reset")
    assert said(cluster, tools, f"--atlas-dataset={environment}", state="complete") == tools_say(environment)
    for command in (["srun"], ["salloc", "-Q", "srun"]):
        done = cluster.run(command[0], f"--atlas-dataset={environment}", *command[1:], "bash", "-c", tools, user=FIRST, cwd="/tmp").check()
        assert done.out.splitlines() == tools_say(environment)
    assert cluster.origin_stats()["read_bytes"] == 0


def test_a_virtual_environment_that_is_read_through(cluster: Cluster, environment: Path) -> None:
    copy = cluster.origin / "cold-env"
    shutil.copytree(environment, copy, symlinks=True)
    tools = f"for t in linked copied; do {copy}/$t/bin/python -c 'import acoustics; print(acoustics.total, acoustics.__file__)'; done"
    expected = [line.replace(str(environment), str(copy)).split(" ") for line in tools_say(environment)]
    got = said(cluster, tools, *partial(copy, 2 << 20), state="partial")
    assert got == [f"{total} {file}" for total, _, file in expected]


# ---- git --------------------------------------------------------------------------------------------------------------

def repository(root: Path) -> None:
    root.mkdir()
    git = ["git", "-C", str(root), "-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "gc.auto=0"]
    subprocess.run([*git, "init", "-q"], check=True)
    for commit in range(3):
        datasets.small_files(root / f"part{commit}", 150, 3000, seed=commit)
        subprocess.run([*git, "add", "-A"], check=True)
        subprocess.run([*git, "commit", "-qm", f"part {commit}"], check=True)
        if commit == 1:  # a pack, and loose objects
            subprocess.run([*git, "repack", "-adq"], check=True)
    give(root, FIRST)


def test_git_fsck_of_a_repository(cluster: Cluster) -> None:
    for name, options, state in (("repository", warm, "complete"), ("cold-repository", lambda root: partial(root, 1 << 20), "partial")):
        root = cluster.origin / name
        repository(root)
        git = f"git --no-optional-locks -c safe.directory='*' -C {root}"
        script = f"{git} fsck --full --strict && {git} status --porcelain && {git} log --oneline | wc -l; {git} ls-files | wc -l"
        for user in USERS:
            assert said(cluster, script, *options(root), user=user, state=state) == ["3", "450"]


# ---- PyTorch ----------------------------------------------------------------------------------------------------------

LOADER = """import hashlib, sys, warnings, wave
from pathlib import Path
import torch
from torch.utils.data import DataLoader, Dataset

class Sounds(Dataset):
    def __init__(self, root):
        self.files = sorted(Path(root).rglob("*.wav"))
    def __len__(self):
        return len(self.files)
    def __getitem__(self, index):
        with wave.open(str(self.files[index])) as sound:
            return index, torch.frombuffer(bytearray(sound.readframes(sound.getnframes())), dtype=torch.int16)

warnings.simplefilter("ignore")  # that it has more workers than there are CPUs
torch.manual_seed(1)
for root in sys.argv[1:]:
    sums = {}
    for index, samples in DataLoader(Sounds(root), batch_size=None, shuffle=True, num_workers=4):
        sums[index] = hashlib.sha256(samples.numpy().tobytes()).hexdigest()
    everything = hashlib.sha256("".join(sums[index] for index in sorted(sums)).encode())
    print(len(sums), everything.hexdigest())
"""


@pytest.mark.skipif(not TORCH.exists(), reason="no python3-torch here: ./dev packages torch installs it (650 MB)")
def test_a_pytorch_data_loader_over_sounds(cluster: Cluster) -> None:
    """Four workers in random order; every sample compared with the origin's."""
    sounds = sorted(file for file in SOUNDS.rglob("*.wav") if file.is_file())[:400]
    assert len(sounds) == 400, "./dev packages torch installs them"
    roots = [cluster.origin / name for name in ("sounds", "cold-sounds")]
    for root in roots:
        for number, file in enumerate(sounds):
            target = root / f"d{number % 7}" / f"{number}.wav"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
    size = sum(file.stat().st_size for file in sounds)
    script = cluster.state / "jobs" / "loader.py"
    script.write_text(LOADER)
    expected = subprocess.run(["/usr/bin/python3", script, roots[0]], capture_output=True, text=True, check=True).stdout.splitlines()
    assert expected[0].startswith("400 ")
    hold(cluster, roots[0])
    cluster.origin_ctl("reset")
    assert said(cluster, f"/usr/bin/python3 {script} {roots[0]}", f"--atlas-dataset={roots[0]}", state="complete") == expected
    assert cluster.origin_stats()["read_bytes"] == 0
    assert said(cluster, f"/usr/bin/python3 {script} {roots[1]} {roots[1]}", *partial(roots[1], size // 2), state="partial") == expected * 2
