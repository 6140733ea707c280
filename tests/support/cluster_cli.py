"""./dev cluster up | down | env | status: one cluster per checkout, recorded in build/cluster/."""

import argparse
import dataclasses
import json
import os
import re
import shlex
import sys
import time
from pathlib import Path

from cluster import ROOT, Cluster, Settings, SHIMS
from world_client import WorldError

RECORD = ROOT / "build" / "cluster" / "cluster.json"


def load() -> Cluster | None:
    """The recorded cluster, whether alive or not."""
    try:
        record = json.loads(RECORD.read_text())
        return Cluster(Settings(**record["settings"]), Path(record["state"]))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def down() -> None:
    cluster = load()
    if cluster is not None:
        cluster.down()
    RECORD.unlink(missing_ok=True)


def up(settings: Settings) -> int:
    cluster = load()
    if cluster is not None and cluster.alive() and cluster.settings == settings:
        for name in [n for n, d in cluster.daemons().items() if "exit" in d]:
            print(f"cluster: {name} had ended; starting it again", file=sys.stderr)
            cluster.start(name)
        cluster.wait_nodes()
        print(f"cluster: already up, state in {cluster.state}")
        return 0
    if cluster is not None:
        print("cluster: one with other options is up or has died: taking it down first", file=sys.stderr)
    down()
    began = time.monotonic()
    cluster = Cluster(settings).up(detached=True)
    RECORD.parent.mkdir(parents=True, exist_ok=True)
    RECORD.write_text(json.dumps({"state": str(cluster.state), "settings": dataclasses.asdict(settings)}))
    print(f"cluster: {settings.nodes} nodes up in {time.monotonic() - began:.1f} s, state in {cluster.state}")
    print(f"cluster: origin {cluster.origin}; daemons: {', '.join(cluster.daemons())}")
    print('cluster: use it with   eval "$(./dev cluster env)"   and then sbatch, squeue, atlas-submit, atlasctl ...')
    return 0


def environment() -> int:
    cluster = load()
    if cluster is None or not cluster.alive():
        print("cluster: none is up; start one with ./dev cluster up", file=sys.stderr)
        print("false")  # for eval
        return 1
    values = cluster.environment
    for name in ("SLURM_CONF", "ATLAS_CONF", "ATLAS_ORIGIN"):
        print(f"export {name}={shlex.quote(values[name])}")
    shims = str(cluster.state / "bin")
    path = [p for p in os.environ.get("PATH", "").split(":") if not p.startswith("/tmp/atlas-cluster.")]
    print(f"export PATH={shlex.quote(':'.join([shims, *path]))}")
    print("# These commands run inside the cluster, as you, in your directory: " + ", ".join(SHIMS))
    return 0


def status() -> int:
    cluster = load()
    if cluster is None or not cluster.alive():
        print("cluster: none is up")
        return 1
    print(f"state  {cluster.state}\norigin {cluster.origin}")
    for name, daemon in cluster.daemons().items():
        print(f"{name:16} {'ended with ' + str(daemon['exit']) if 'exit' in daemon else 'running'}")
    print(cluster.run("sinfo").out, end="")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="./dev cluster", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    upper = commands.add_parser("up", help="start a cluster; does nothing if the same one is up")
    upper.add_argument("nodes", nargs="?", type=int, default=4)
    upper.add_argument("--origin", metavar="DIR", help="existing directory to serve as origin (default: one of its own)")
    upper.add_argument("--origin-latency", metavar="MS", type=float, help="put the slow origin in front: ms per operation")
    upper.add_argument("--origin-bandwidth", metavar="RATE", help="put the slow origin in front: e.g. 200M per second")
    upper.add_argument("--default-scheduler", action="store_true", help="without tuned SchedulerParameters")
    upper.add_argument("--cache-quota", metavar="SIZE", default="8G", help="cache of each node (default 8G)")
    for name in ("down", "env", "status"):
        commands.add_parser(name)
    options = parser.parse_args()
    if options.command != "up":
        return {"down": lambda: down() or 0, "env": environment, "status": status}[options.command]()
    if not 1 <= options.nodes <= 256:
        parser.error(f"nodes: {options.nodes} is not between 1 and 256")
    if (options.origin_latency or 0) < 0:
        parser.error(f"--origin-latency: {options.origin_latency} is not 0 or more milliseconds")
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?[KMGT]?", options.origin_bandwidth or "0"):
        parser.error(f"--origin-bandwidth: '{options.origin_bandwidth}' is no rate such as 200M (bytes per second)")
    if options.origin and not os.path.isdir(options.origin):
        parser.error(f"--origin: '{options.origin}' is no directory")
    return up(Settings(
        nodes=options.nodes, origin=os.path.realpath(options.origin) if options.origin else None,
        slow_origin=options.origin_latency is not None or options.origin_bandwidth is not None,
        origin_latency=options.origin_latency or 0, origin_bandwidth=options.origin_bandwidth or "0",
        origin_cache=1, default_scheduler=options.default_scheduler, quota=options.cache_quota))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except WorldError as error:  # ClusterError is one
        print(f"cluster: {error}", file=sys.stderr)
        sys.exit(1)
