"""Fixtures of the tests on a real cluster. A test file gets one cluster; `SETTINGS = Settings(...)` in it says which kind."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster import ROOT, Cluster, Settings

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
    print(f"\nlogs of this cluster are kept in {logs}")
    for file in sorted((logs / "log").iterdir()):
        lines = file.read_text(errors="replace").splitlines()
        if lines:
            print(f"--- {file.name}, last lines")
            print("\n".join(lines[-25:]))


@pytest.fixture(scope="module")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    settings = getattr(request.module, "SETTINGS", None) or Settings()
    running = Cluster(settings).up()
    yield running
    if request.node.stash.get(FAILED, False):
        print_tails(keep_logs(running, request.module.__name__))
    running.down()


@pytest.fixture(autouse=True)
def no_node_is_ever_drained(request: pytest.FixtureRequest) -> Iterator[None]:
    """What Atlas promises above all: whatever goes wrong, no node is lost."""
    yield
    if "cluster" in request.fixturenames:
        running = request.getfixturevalue("cluster")
        if running.alive() and running.running("slurmctld"):
            assert running.sinfo_R() == "", "a node is down or drained"


@pytest.fixture
def origin(cluster: Cluster) -> Path:
    """The origin as the plain directory: what a test changes here, nodes see through the slow origin."""
    return cluster.origin


def pytest_sessionstart(session: pytest.Session) -> None:
    if os.geteuid() != 0:
        pytest.exit("cluster tests make namespaces and mounts: run them as root", returncode=2)
