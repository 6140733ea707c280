"""What the controller takes of a CPU at 10,000 nodes, 1,000 datasets and 5,000 pending jobs, beside what it may take."""

import json
import subprocess

from cluster import ROOT
from report import Report, progress

PROGRAMS = ROOT / "build" / "release" / "bin"


def bench_scale(report: Report, quick: bool) -> None:
    nodes, datasets, jobs = ("1000", "100", "500") if quick else ("10000", "1000", "5000")
    progress(f"scale: staging with {nodes} nodes, {datasets} datasets, {jobs} pending jobs (Slurm, agents and the clock are scripted)")
    argv = [PROGRAMS / "stage-jobs", nodes, datasets, jobs, "10" if quick else "60", "100" if quick else "1000"]
    took = json.loads(subprocess.run(list(map(str, argv)), capture_output=True, text=True, check=True).stdout)
    report.add("decision of staging, 99% at most", took["submit"]["p99_ms"], "ms", against="goal", reference=5.0, samples=took,
               note="CPU time of the whole data_in hook: view, place(), catalogue")
    report.add("poll and reconcile, mean", took["poll"]["mean_ms"], "ms", against="goal", reference=100.0,
               note="CPU time per second of the queue, libslurm's own not counted")
    report.add("poll and reconcile, 99% at most", took["poll"]["p99_ms"], "ms", against="goal", reference=100.0)
