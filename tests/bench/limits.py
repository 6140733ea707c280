"""Section `limits` of ./dev bench: what limits cost, how the control loop answers, and how exactly they hold."""

import json
import subprocess

from cluster import ROOT
from limits_plot import plot
from limits_real import bench_real
from report import Report, progress

MODEL = ROOT / "build" / "release" / "bin" / "limit-model"
PLOT = ROOT / "build" / "bench" / "limits-step.svg"


def bench_limits(report: Report, quick: bool) -> None:
    progress("limits: the division, the buckets, the loop's model")
    found = json.loads(subprocess.run([MODEL], capture_output=True, text=True, check=True).stdout)
    report.add("shares of 1000 nodes x 200 users, the division alone", found["divide_ms"], "ms", against="at most", reference=20)
    report.add("the same with all that a controller does in a second", found["sharing_ms"], "ms")
    report.add("admit + settle with a free budget", found["admit_settle_ns"], "ns", against="at most", reference=200)
    report.add("the same among 1000 limits and as many users", found["admit_settle_1000_ns"], "ns")
    report.add("model: overshoot over 1 s, bursty owners, worst of 100 runs", 100 * found["overshoot"], "%", against="at most", reference=10)
    report.add("model: take-back to 90% of the share, worst of 100", found["take_back_s"], "s", against="at most", reference=2)
    report.add("model: part of the origin that is used, worst of 50", 100 * found["least_used"], "%")
    plot(found["step"], "Model: 4 nodes, messages 0.5 s +- 0.25 s each way", ("one who stays", "10 to 30 s", "20 to 50 s, weight 2"), PLOT)
    print(f"  step response: {PLOT.relative_to(ROOT)}")
    bench_real(report, quick)
