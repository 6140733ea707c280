"""The daemons do all their work with no more than the capabilities that their systemd units leave them."""

import re
from collections.abc import Iterator

import pytest

import datasets
from cluster import ROOT, USERS, Cluster, Settings, wait_for
from datasets import STATE, warm

SETTINGS = Settings(nodes=2)
UNITS = {"controller": "atlas-controller", "holder": "atlas-view-holder", "agent": "atlas-cache-agent"}


def capabilities(unit: str) -> set[str]:
    """What a unit's CapabilityBoundingSet= leaves, in lower case and without "cap_"."""
    text = (ROOT / "etc" / "systemd" / f"{unit}.service.in").read_text()
    words = [word for line in re.findall(r"^CapabilityBoundingSet=(.*)$", text, re.M) for word in line.split()]
    return {word.lower().removeprefix("cap_") for word in words}


@pytest.fixture(scope="module", autouse=True)
def confined(cluster: Cluster) -> Iterator[None]:
    """Both kinds of daemon again, as systemd would start them: with the bounding set, and without new privileges."""
    plain = cluster._daemon

    def confine(name: str) -> dict:
        daemon = plain(name)
        unit = UNITS.get(name.partition(" ")[0])
        if unit is not None:
            left = ",".join(f"+{name}" for name in sorted(capabilities(unit)))
            bounding = f"-all,{left}" if left else "-all"
            who = ["--reuid=slurm", "--regid=slurm", "--init-groups", f"--inh-caps={left}", f"--ambient-caps={left}"]
            program = next(i for i, word in enumerate(daemon["argv"]) if word.endswith("/" + unit))
            daemon["argv"] = ["setpriv", f"--bounding-set={bounding}", "--no-new-privs",
                              *(who if unit == "atlas-controller" else []), "--", *daemon["argv"][program:]]
        return daemon

    cluster._daemon = confine
    for name in ["controller", *(f"{kind} {node}" for kind in ("holder", "agent") for node in cluster.node_names)]:
        cluster.restart(name)
    wait_for(lambda: [node["state"] for node in cluster.atlasctl("node", "list")] == ["up", "up"], 30, "both agents are up")
    yield
    cluster._daemon = plain


def effective(cluster: Cluster, program: str) -> set[int]:
    """The capability sets in force in the processes of a program."""
    done = cluster.sh(f"for p in $(pidof {program}); do sed -n 's/^CapEff:\\s*//p' /proc/$p/status; done").check()
    return {int(line, 16) for line in done.out.split()}


def test_they_run_confined(cluster: Cluster) -> None:
    assert effective(cluster, "atlas-controller") == {1 << 10}, "CAP_NET_BIND_SERVICE alone"
    (agent,) = effective(cluster, "atlas-cache-agent")
    assert agent.bit_count() == len(capabilities("atlas-cache-agent"))
    assert not agent & 1 << 16, "CAP_SYS_MODULE"
    assert effective(cluster, "atlas-view-holder") == {0}, "none at all"


def test_views_outlive_a_killed_agent(cluster: Cluster) -> None:
    root = cluster.origin / "kept"
    datasets.small_files(root, 20, 100_000)
    cluster.origin_ctl("bandwidth", "100K")  # the warm-up of the background stays behind
    go = cluster.state / "jobs" / "go-kept"
    try:
        job = cluster.submit(f'{STATE}; until [ -e {go} ]; do sleep 0.1; done; cat {root}/*/* | wc -c', f"--atlas-dataset={root}")
        wait_for(lambda: f"{root}=partial" in cluster.job_output(job), 30, "the job has begun")
        node = cluster.job(job)["NodeList"]
        cluster.kill_daemon(f"agent {node}")
        go.touch()
        wait_for(lambda: [view for view in cluster.kept_views(node) if view.split()[1] != "0"], 20, "the job waits for an agent")
        cluster.start_agent(node)
        cluster.origin_ctl("bandwidth", "0")
        cluster.wait_done(job)
        assert "2000000" in cluster.job_output(job).splitlines()
    finally:
        cluster.origin_ctl("bandwidth", "0")


def test_any_tree_is_warmed_attached_and_evicted(cluster: Cluster) -> None:
    root = cluster.origin / "nasty"
    datasets.nasty_tree(root)
    job = cluster.submit(STATE, *warm(root))
    node = cluster.wait_done(job, 120)["NodeList"]
    assert f"{root}=complete" in cluster.job_output(job).splitlines()
    wait_for(lambda: cluster.run("atlasctl", "evict", str(root)).code == 0, 30, "the ended job holds it no longer")
    wait_for(lambda: not [row for row in cluster.atlasctl("placement", str(root)) if row["node"] == node and row["bytes_resident"]], 30,
             "the replica is gone")
    again = cluster.submit(STATE, *warm(root), user=USERS[0])
    cluster.wait_done(again, 120)
    assert f"{root}=complete" in cluster.job_output(again).splitlines()
