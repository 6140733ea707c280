"""A dataset of a million files: what an agent needs for it."""

import json
import os
import subprocess
import tempfile

from cluster import ROOT
from report import Report, progress


def bench_many(report: Report, quick: bool) -> None:
    count = 100_000 if quick else 1_000_000
    progress(f"{count} files in one dataset")
    program = ROOT / "build" / "release" / "bin" / "many-files"
    with tempfile.TemporaryDirectory(prefix="atlas-bench-", dir=os.environ.get("ATLAS_CLUSTER_TMP")) as base:
        done = subprocess.run([program, str(count), base], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"bench: {done.stderr.strip()}")
    found = json.loads(done.stdout)
    for key, what, unit, goal in (("warming_bytes_per_file", "agent memory per file, at its highest during the warm-up", "B", None),
                                  ("complete_bytes_per_file", "agent memory per file, complete replica", "B", 100),
                                  ("partial_bytes_per_file", "agent memory per file, partial replica with a view", "B", 100),
                                  ("start_seconds", "start of an agent that holds it", "s", 2),
                                  ("listed_per_second", "listing it through a partial view", "entries/s", 100_000)):
        report.add(what, found[key], unit, against="goal" if goal else "", reference=goal, samples=found)
