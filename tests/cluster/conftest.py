"""Fixtures of the tests on a real cluster. A test file gets one cluster; `SETTINGS = Settings(...)` in it says which kind."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster import ROOT, Cluster, Settings
from leaks import end_all_jobs, wait_clean

FAILED = pytest.StashKey[bool]()
KEPT_LOGS = ROOT / "build" / "test-logs"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = (yield).get_result()
    if report.failed:
        item.stash[FAILED] = True
        item.getparent(pytest.Module).stash[FAILED] = True


def keep_logs(cluster: Cluster, name: str) -> Path:
    """Copies the cluster's logs and configuration out of its directory, which will be removed."""
    target = KEPT_LOGS / name
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for part in ("log", "etc", "jobs"):
        if (cluster.state / part).exists():
            shutil.copytree(cluster.state / part, target / part)
    return target


def print_tails(logs: Path) -> None:
    """The last words of Atlas' own daemons; Slurm's are in the directory."""
    print(f"\nlogs of this cluster are kept in {logs}")
    for file in sorted((logs / "log").iterdir()):
        lines = file.read_text(errors="replace").splitlines()
        if lines and file.name.startswith(("controller", "agent", "world", "slow-origin")):
            print(f"--- {file.name}, last lines")
            print("\n".join(lines[-20:]))


@pytest.fixture(scope="module")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    settings = getattr(request.module, "SETTINGS", None) or Settings()
    running = Cluster(settings).up()
    yield running
    if request.node.stash.get(FAILED, False):
        print_tails(keep_logs(running, request.module.__name__))
    running.down()


@pytest.fixture(autouse=True)
def nothing_is_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """What Atlas promises above all: whatever goes wrong, no node is lost, and nothing stays when the jobs have gone."""
    yield
    if "cluster" not in request.fixturenames:
        return
    running = request.getfixturevalue("cluster")
    if not running.alive():
        return
    if request.node.stash.get(FAILED, False):
        mend(running)  # the next test gets a working cluster
        return
    if running.running("slurmctld"):
        end_all_jobs(running)
        assert running.sinfo_R() == "", "a node is down or drained"
        wait_clean(running)


def mend(cluster: Cluster) -> None:
    """After a failed test: every daemon runs, the origin is whole, no job is left. Best effort."""
    try:
        if cluster.running("slow-origin"):
            for words in (("resume",), ("heal",), ("latency", "0"), ("bandwidth", "unlimited")):
                cluster.origin_ctl(*words)
        for name, daemon in cluster.daemons().items():
            if "exit" in daemon:
                cluster.start(name)
        end_all_jobs(cluster)
        cluster.run("scontrol", "update", "nodename=ALL", "state=resume")
    except Exception as error:  # noqa: BLE001: the failure that matters has been reported
        print(f"after the failed test: {error}")


@pytest.fixture
def origin(cluster: Cluster) -> Path:
    """The origin as the plain directory: what a test changes here, nodes see through the slow origin."""
    return cluster.origin


def pytest_sessionstart(session: pytest.Session) -> None:
    if os.geteuid() != 0:
        pytest.exit("cluster tests make namespaces and mounts: run them as root", returncode=2)
