"""./dev bench [SECTION...] [--quick] [--json FILE]: what Atlas costs and what it gives, on this machine.

start  how long a trivial job takes to start, with and without Atlas options, its data being there already
dead   from a dataset's last byte to its job's first command; how much of a warm-up lies in queue time
gang   an array of 1,000 tasks, warm, against a plain one; 300 jobs that wait for one dataset
site   500 jobs over 40 datasets on 64 nodes: none lost or stuck, nothing left behind; how long it takes, and what of the origin is read how often
warm   how fast a cache is warmed, from a local disk, against reading alone, writing alone, cp, rsync, fpsync, rclone
warm-slow  the same from the slow origin, with fewer files: about five minutes
peers  what several nodes that are warmed at once ask of the slow origin, against one
read   how fast a job reads a complete replica through its mount, against a plain copy on the same file system: whole files, at random,
       mapped, attributes, walks, Python's imports
view   a partial replica: the first epoch through it against reading the slow origin directly; later ones, and what is in memory, beside
       rclone mount and libfuse's own passthrough example
keep   how much of an epoch a cache smaller than the data serves, against least-recently-used (computed, not measured)
limits what limits of reading cost, how the control loop answers (plots: in a model, and on real nodes), and how exactly they hold
many   what an agent needs for a dataset of a million files: memory, start, listing
sim    queue and stall times under several placement policies, by simulation: three workloads, ten seeds
place  what one placement costs the controller at 10,000 nodes
scale  what decisions and looks at the queue cost the controller at 10,000 nodes, 1,000 datasets, 5,000 pending jobs
takeover how long readers wait when the agent is killed and started again

Prints a table and writes JSON. All but keep, sim, place, scale and limits on a real Slurm cluster. Run it on a quiet machine: differences under 20% may be noise. Origin and store lie
below $ATLAS_CLUSTER_TMP (default: the directory for temporary files); if that file system is mounted with "discard", deleting may take minutes.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from cluster import ROOT, ClusterError  # noqa: E402
from dead import bench_dead  # noqa: E402
from gang import bench_gang  # noqa: E402
from keep import bench_keep  # noqa: E402
from limits import bench_limits  # noqa: E402
from many import bench_many  # noqa: E402
from peers import bench_peers  # noqa: E402
from read import bench_read  # noqa: E402
from report import Report  # noqa: E402
from scale import bench_scale  # noqa: E402
from sim import bench_place, bench_sim  # noqa: E402
from site_jobs import bench_site  # noqa: E402
from start import bench_start  # noqa: E402
from takeover import bench_takeover  # noqa: E402
from view import bench_view  # noqa: E402
from warm import bench_warm, bench_warm_slow  # noqa: E402
from world_client import WorldError  # noqa: E402

RESULTS = ROOT / "build" / "bench"
SECTIONS = {"start": bench_start, "dead": bench_dead, "gang": bench_gang, "site": bench_site, "peers": bench_peers, "warm": bench_warm, "warm-slow": bench_warm_slow, "read": bench_read, "view": bench_view, "keep": bench_keep,
            "sim": bench_sim, "place": bench_place, "scale": bench_scale, "many": bench_many, "takeover": bench_takeover, "limits": bench_limits}


def main() -> int:
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("section", nargs="*", help=", ".join(SECTIONS) + " (default: all)")
    parser.add_argument("--quick", action="store_true", help="smaller data, fewer rounds: to see that it works")
    parser.add_argument("--json", type=Path, default=RESULTS / "bench.json", metavar="FILE")
    options = parser.parse_args()
    if unknown := set(options.section) - SECTIONS.keys():
        parser.error(f"unknown section '{unknown.pop()}': {', '.join(SECTIONS)}")
    report = Report()
    try:
        for name in options.section or SECTIONS:
            SECTIONS[name](report, options.quick)
    except (ClusterError, WorldError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps({"when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "quick": options.quick,
                                        "machine": {"cpus": os.cpu_count(), "kernel": os.uname().release}, "rows": report.rows}, indent=1))
    print(f"\n{report.table()}\n\nsamples: {options.json}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
