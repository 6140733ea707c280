"""Where jobs wait for nodes and for data under several placement policies, by simulation."""

import json
import subprocess

from cluster import ROOT
from report import Report

POLICIES = ("blind", "prefer", "delay", "atlas", "oracle")
FIGURES = {"mean_stall": "stall", "mean_turnaround": "turnaround", "p95_wait": "95% wait at most"}


def bench_sim(report: Report, quick: bool) -> None:
    """Atlas against each of the others, on the generator's three workloads."""
    program = ROOT / "build" / "release" / "bin" / "atlas-sim"
    for workload in ("zipf", "partial", "none"):
        size = ["--jobs", "300", "--nodes", "40", "--origin-rate", "1.5G"] if quick else ["--jobs", "1500", "--seeds", "10"]
        argv = [program, "--workload", workload, "--json", *size]
        for policy in POLICIES:
            argv += ["--policy", policy]
        rows = json.loads(subprocess.run(list(map(str, argv)), capture_output=True, text=True, check=True).stdout)
        atlas = next(row for row in rows if row["policy"] == "atlas")
        for row in rows:
            if row is atlas:
                continue
            for figure, name in FIGURES.items():
                report.add(f"{workload}: {name}", atlas[figure], "s", against=row["policy"], reference=row[figure] or None, samples=rows)


def bench_place(report: Report, quick: bool) -> None:
    """One decision of the cost model at 10,000 nodes, the job's dataset being held by 200 of them."""
    program = ROOT / "build" / "release" / "bin" / "place-jobs"
    argv = [program, "10000", "1000", "500" if quick else "5000"]
    for what, more in (("place()", []), ("place(), all candidates listed", ["explain"])):
        times = json.loads(subprocess.run([*map(str, argv), *more], capture_output=True, text=True, check=True).stdout)
        report.add(f"{what}, 99% at most", times["p99_ms"], "ms", note="CPU time", samples=times)
