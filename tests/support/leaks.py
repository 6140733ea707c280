"""What Atlas must not leave behind when no job runs: mounts, pinned namespaces, processes, leases."""

from cluster import USERS, Cluster, wait_for

# Programs that live as long as a job or a command.
SHORT_LIVED = ("slurmstepd", "atlas-attach", "atlas-enter", "atlas-stage", "atlas-submit", "atlasctl")

# Prints each process whose mount namespace is neither that of a node nor of a daemon, as "COMM PID ARGS".
NAMESPACES = r"""
declare -A known
for pid in 1 "$@"; do known[$(readlink /proc/$pid/ns/mnt)]=1; done
for link in /proc/[0-9]*/ns/mnt; do
  pid=${link#/proc/}; pid=${pid%%/*}
  ns=$(readlink "$link" 2>/dev/null) || continue
  [ -n "$ns" ] && [ -z "${known[$ns]:-}" ] || continue
  echo "$(cat /proc/$pid/comm 2>/dev/null) $pid $(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null)"
done
true
"""


def _processes(cluster: Cluster) -> list[str]:
    found = []
    for line in cluster.run("ps", "-eo", "user:32=,comm=,pid=,args=").check().out.splitlines():
        user, comm, rest = line.split(None, 2)
        if user in USERS or comm in SHORT_LIVED:
            found.append(f"process {comm} {rest}")
    return found


def _mounts(cluster: Cluster) -> list[str]:
    found = []
    for node in cluster.node_names:
        places = ("/run/atlas/ns/", f"{cluster.origin}/")
        found += [f"mount {point} on {node}" for point in cluster.mounts(node) if point.startswith(places)]
    return found


def _namespaces(cluster: Cluster) -> list[str]:
    daemons = [d["pid"] for d in cluster.daemons().values() if "exit" not in d]
    lines = cluster.run("bash", "-c", NAMESPACES, "bash", *map(str, daemons + cluster.node_pids())).check().out
    return [f"process in a mount namespace of its own: {line}" for line in lines.splitlines()]


def _leases(cluster: Cluster) -> list[str]:
    found = []
    jobs = cluster.atlasctl("job", "list")
    found += [f"the controller still tends job {j['job_id']}, {j['phase']}: {j['reason']}" for j in jobs if j["phase"] != "ended"]
    for node in cluster.atlasctl("node", "list"):
        if node["state"] == "up" and node["jobs"]:
            found.append(f"lease: {node['name']} holds something for {node['jobs']} jobs")
    for row in cluster.atlasctl("placement"):
        if row["jobs"]:
            found.append(f"lease: {row['node']} keeps {row['path']} for jobs {row['jobs']}")
    return found


def leaks(cluster: Cluster) -> list[str]:
    """All leaks, one sentence each; empty if clean."""
    found = _processes(cluster) + _mounts(cluster) + _namespaces(cluster)
    for node in cluster.node_names:
        if cluster.running(f"holder {node}"):
            found += [f"a view kept on {node}: {view}" for view in cluster.kept_views(node)]
    if cluster.running("controller"):
        found += _leases(cluster)
    return found


def end_all_jobs(cluster: Cluster) -> None:
    """Whatever a test has left in the queue."""
    if queued := cluster.run("squeue", "-h", "-o", "%A").out.split():
        cluster.run("scancel", "--quiet", *sorted(set(queued)))
    wait_for(lambda: cluster.run("squeue", "-h", "-o", "%A %T %r").out.strip() == "", 60, "the queue is empty")


def wait_clean(cluster: Cluster, timeout: float = 20) -> None:
    """Fails naming what is left after `timeout` seconds."""
    last: list[str] = []

    def clean() -> bool:
        nonlocal last
        last = leaks(cluster)
        return not last
    try:
        wait_for(clean, timeout, interval=0.2)
    except Exception:
        raise AssertionError(f"left behind {timeout:g} s after the test:\n  " + "\n  ".join(last)) from None

