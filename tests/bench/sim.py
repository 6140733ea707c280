"""Where jobs wait for nodes and for data under several placement policies, by simulation."""

import json
import statistics
import subprocess

from cluster import ROOT
from report import Report

POLICIES = ("blind", "prefer", "delay", "atlas", "oracle")
# Figure, its name, and how many times another policy's mean over the seeds it may be at most.
STALL, TURNAROUND, WAIT = ("mean_stall", "stall"), ("mean_turnaround", "turnaround"), ("p95_wait", "95% wait at most")
GOALS = ((*STALL, {"blind": 1 / 3, "prefer": 0.7, "delay": 0.7}), (*TURNAROUND, {"blind": 1, "prefer": 1, "delay": 1}), (*WAIT, {"blind": 1.05}))
STUDENT = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 7: 2.36, 8: 2.31, 9: 2.26}  # 95%, two-sided, by degrees of freedom


def spread(values: list[float]) -> str:
    """Half of a 95% interval of the mean."""
    if len(values) - 1 not in STUDENT:
        return ""
    return f" +- {STUDENT[len(values) - 1] * statistics.stdev(values) / len(values) ** 0.5:.2f}"


def judge(report: Report, workload: str, rows: dict[str, dict]) -> None:
    """Each goal, with the oracle's figure beside it; then what it costs."""
    atlas, oracle = rows["atlas"], rows["oracle"]
    for figure, name, goals in GOALS:
        for policy, most in goals.items():
            other = rows[policy]
            ratios = [mine[figure] / theirs[figure] for mine, theirs in zip(atlas["seeds"], other["seeds"]) if theirs[figure] > 0]
            met = atlas[figure] <= most * other[figure]
            note = (f"{'met' if met else 'MISSED'}: at most {most:.2f}; by seed {statistics.mean(ratios):.2f}{spread(ratios)}; "
                    f"the oracle {oracle[figure] / other[figure]:.2f}") if ratios else "nothing to compare"
            report.add(f"{workload}: {name}", atlas[figure], "s", against=other["policy"], reference=other[figure] or None, note=note, samples=other)
        report.add(f"{workload}: {name}", atlas[figure], "s", against="oracle", reference=oracle[figure] or None,
                   note=f"how far from it{spread([run[figure] for run in atlas['seeds']])} s", samples=oracle)
    report.add(f"{workload}: fairness", atlas["fairness"], "", against="blind", reference=rows["blind"]["fairness"],
               note=f"Jain's index of users' slowdowns; the oracle {oracle['fairness']:.3f}", samples=atlas)
    report.add(f"{workload}: warmed in vain", atlas["wasted_bytes"] / 1e12, "TB", note=f"of {atlas['warm_bytes'] / 1e12:.0f} TB brought ahead",
               against="oracle", reference=oracle["wasted_bytes"] / 1e12 or None)


def bench_sim(report: Report, quick: bool) -> None:
    """Atlas against each of the others, on the generator's three workloads."""
    program = ROOT / "build" / "release" / "bin" / "atlas-sim"
    for workload in ("zipf", "partial", "none"):
        size = ["--jobs", "300", "--nodes", "40", "--origin-rate", "1.5G"] if quick else ["--jobs", "1500", "--seeds", "10"]
        argv = [program, "--workload", workload, "--json", *size]
        for policy in POLICIES:
            argv += ["--policy", policy]
        rows = json.loads(subprocess.run(list(map(str, argv)), capture_output=True, text=True, check=True).stdout)
        judge(report, workload, {row["policy"].split("=")[0]: row for row in rows})


def bench_place(report: Report, quick: bool) -> None:
    """One decision of the cost model at 10,000 nodes, the job's dataset being held by 200 of them."""
    program = ROOT / "build" / "release" / "bin" / "place-jobs"
    argv = [program, "10000", "1000", "500" if quick else "5000"]
    for what, more in (("place()", []), ("place(), all candidates listed", ["explain"])):
        times = json.loads(subprocess.run([*map(str, argv), *more], capture_output=True, text=True, check=True).stdout)
        report.add(f"{what}, 99% at most", times["p99_ms"], "ms", note="CPU time", samples=times)
