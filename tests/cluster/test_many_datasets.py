"""Several datasets, of two origins, in one job: each at its own path, and once more below $ATLAS_ROOT."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import datasets
from cluster import USERS, Cluster, Settings, wait_for
from datasets import warm

SETTINGS = Settings(nodes=1, second_origin=True)
# Each name below $ATLAS_ROOT, whether it is a view (the same file system as at the dataset's own path) or a link, and what it says.
TREE = """for name in $(ls -A "$ATLAS_ROOT"); do
  [ -L $ATLAS_ROOT/$name ] && kind=link || kind=view
  echo "$name $kind $(cat $ATLAS_ROOT/$name/what)"
done"""


def dataset(root: Path) -> Path:
    root.mkdir(parents=True)
    (root / "what").write_text("/".join(root.parts[-2:]) + "\n")
    return root


@pytest.fixture(scope="module")
def speech(cluster: Cluster) -> Path:
    return held(cluster, dataset(cluster.origin / "speech"))


@pytest.fixture(scope="module")
def noise(cluster: Cluster) -> Path:
    return held(cluster, dataset(cluster.second_origin / "noise"))


def held(cluster: Cluster, root: Path) -> Path:
    cluster.run("atlasctl", "dataset", "warm", str(root), "--node", "n001", user=USERS[0], cwd="/tmp").check()
    return root


@pytest.fixture
def cold(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A dataset that stays partial: there is more in it than the origin gives during the test."""
    root = dataset(cluster.origin / "cold" / request.node.name / "speech")
    datasets.big_file(root / "large", 4 << 20)
    cluster.origin_ctl("bandwidth", "50K")
    yield root
    cluster.origin_ctl("bandwidth", "0")


def said(cluster: Cluster, job: int) -> list[str]:
    return [line for line in cluster.job_output(job).splitlines() if not line.startswith("atlas:")]


def test_each_at_its_own_path_and_all_in_one_tree(cluster: Cluster, speech: Path, noise: Path, cold: Path) -> None:
    """Complete and partial ones, two of the same last name."""
    all_of_them = [f"--atlas-dataset={root}" for root in (cold, speech, noise)]
    same = "; ".join(f"stat -c %d:%i $ATLAS_ROOT/{name}/what {root}/what | uniq | wc -l"
                     for name, root in (("speech", cold), ("speech-2", speech), ("noise", noise)))
    job = cluster.submit(f'echo "$ATLAS_CACHE_STATE"; cat {cold}/what {speech}/what {noise}/what; {TREE}; {same}; echo $ATLAS_ROOT; '
                         "touch $ATLAS_ROOT/x 2>&1; touch $ATLAS_ROOT/noise/x 2>&1 | grep -o Read-only", *all_of_them)
    cluster.wait_done(job)
    tail = f"{cold.parts[-2]}/speech"
    assert said(cluster, job) == [
        f"{cold}=partial:{speech}=complete:{noise}=complete", tail, "origin/speech", "scratch/noise",
        "noise view scratch/noise", f"speech view {tail}", "speech-2 view origin/speech", "1", "1", "1", "/run/atlas/job",
        "touch: cannot touch '/run/atlas/job/x': Read-only file system", "Read-only"]
    receipt = cluster.receipt(job)["receipt"]
    assert receipt["outcome"] == "partial", receipt


def test_a_name_of_the_catalogue_is_the_name_in_the_tree(cluster: Cluster, speech: Path, noise: Path) -> None:
    cluster.run("atlasctl", "dataset", "create", f"~{USERS[0]}/voices", str(speech), user=USERS[0], cwd="/tmp").check()
    job = cluster.submit(TREE, f"--atlas-dataset=~{USERS[0]}/voices", f"--atlas-dataset={noise}")
    cluster.wait_done(job)
    assert said(cluster, job) == ["noise view scratch/noise", "voices view origin/speech"]


def test_sessions_of_srun_and_salloc_have_the_tree_too(cluster: Cluster, speech: Path, noise: Path) -> None:
    both = [f"--atlas-dataset={root}" for root in (speech, noise)]
    for command in (["srun", *both], ["salloc", "-Q", *both, "srun"]):
        done = cluster.run(*command, "bash", "-c", TREE, user=USERS[0], cwd="/tmp").check()
        assert done.out.splitlines() == ["noise view scratch/noise", "speech view origin/speech"]


def test_the_tree_does_not_lead_through_an_origin_that_hangs(cluster: Cluster, speech: Path, noise: Path) -> None:
    go = cluster.state / "jobs" / "go"
    job = cluster.submit(f"echo started; until [ -e {go} ]; do sleep 0.1; done; cat $ATLAS_ROOT/speech/what; cat {noise}/what",
                         *[f"--atlas-dataset={root}" for root in (speech, noise)])
    wait_for(lambda: "started" in cluster.job_output(job), 30, "the job has begun")
    cluster.origin_ctl("hang")
    try:
        go.touch()
        cluster.wait_done(job, 30)
    finally:
        cluster.origin_ctl("resume")
    assert said(cluster, job) == ["started", "origin/speech", "scratch/noise"]


def test_of_a_job_at_the_origin_the_tree_has_links(cluster: Cluster, speech: Path, noise: Path, cold: Path) -> None:
    """Whatever of Atlas is away, a script that goes by $ATLAS_ROOT works."""
    all_of_them = [f"--atlas-dataset={root}" for root in (noise, speech, cold)]
    links = ["noise link scratch/noise", "speech link origin/speech", f"speech-2 link {cold.parts[-2]}/speech"]
    cluster.stop("agent n001")
    try:
        job = cluster.submit(f"{TREE}; srun bash -c '{TREE}'", *all_of_them, cwd=speech)
        cluster.wait_done(job)
        assert said(cluster, job) == links * 2
    finally:
        cluster.start_agent("n001")


def test_of_what_cannot_be_shown_the_tree_has_a_link(cluster: Cluster, noise: Path) -> None:
    blind = dataset(cluster.second_origin / "blind")
    (blind / "closed").mkdir(mode=0o711)  # may be entered but not listed
    job = cluster.submit(TREE, f"--atlas-dataset={blind}", f"--atlas-dataset={noise}")
    cluster.wait_done(job)
    assert said(cluster, job) == ["blind link scratch/blind", "noise view scratch/noise"]


def test_without_a_request_there_is_no_tree(cluster: Cluster, speech: Path) -> None:
    inner = f"sbatch --wait -o {cluster.state}/jobs/inner.out --wrap 'echo root=${{ATLAS_ROOT-none}}; ls -A /run/atlas/job'"
    job = cluster.submit(f"ls $ATLAS_ROOT; {inner}", "-n1", *warm(speech), cwd="/tmp")
    cluster.wait_done(job)
    assert said(cluster, job)[0] == "speech"
    assert cluster.job_output("inner") == "root=none\n"
