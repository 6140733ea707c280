"""Section `limits` of ./dev bench: what limits cost, how the control loop answers, and how exactly they hold."""

import json
import subprocess
from pathlib import Path

from cluster import ROOT
from limits_real import bench_real
from report import Report, progress

MODEL = ROOT / "build" / "release" / "bin" / "limit-model"
PLOT = ROOT / "build" / "bench" / "limits-step.svg"
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd")
WIDTH, HEIGHT, MARGIN = 900, 360, 50


def plot(step: dict, path: Path) -> None:
    """Lines over time, one for each user and one for all, as an SVG."""
    capacity, seconds = step["capacity"], len(step["users"][0]) * step["bin_ms"] / 1000
    top = 1.25 * capacity

    def x(t: float) -> float:
        return MARGIN + t / seconds * (WIDTH - 2 * MARGIN)

    def y(rate: float) -> float:
        return HEIGHT - MARGIN - min(rate, top) / top * (HEIGHT - 2 * MARGIN)

    def smooth(values: list[float]) -> list[float]:  # half a second
        return [sum(values[max(0, i - 4):i + 1]) / len(values[max(0, i - 4):i + 1]) for i in range(len(values))]

    def line(values: list[float], colour: str, width: float) -> str:
        points = " ".join(f"{x((i + 1) * step['bin_ms'] / 1000):.1f},{y(v):.1f}" for i, v in enumerate(smooth(values)))
        return f'<polyline fill="none" stroke="{colour}" stroke-width="{width}" points="{points}"/>'

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" font-size="12">',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>']
    for mark in (0, 0.25, 0.5, 0.75, 1):
        at = y(mark * capacity)
        out.append(f'<line x1="{MARGIN}" x2="{WIDTH - MARGIN}" y1="{at:.1f}" y2="{at:.1f}" stroke="#ccc"/>')
        out.append(f'<text x="{MARGIN - 6}" y="{at + 4:.1f}" text-anchor="end">{mark * capacity / 1e6:.0f}</text>')
    for t in range(0, int(seconds) + 1, 10):
        out.append(f'<text x="{x(t):.1f}" y="{HEIGHT - MARGIN + 18}" text-anchor="middle">{t} s</text>')
    out.append(f'<text x="{MARGIN}" y="{MARGIN - 24}">MB/s from the origin, mean of 0.5 s. Model: 4 nodes, messages 0.5 s +- 0.25 s each way</text>')
    out.append(line([sum(rates) for rates in zip(*step["users"])], "#555", 1))
    out.append(f'<text x="{WIDTH - MARGIN - 230}" y="{MARGIN - 8}" fill="#555">all</text>')
    for number, rates in enumerate(step["users"]):
        out.append(line(rates, COLOURS[number % len(COLOURS)], 2))
        name = ("one who stays", "10 to 30 s", "20 to 50 s, weight 2")[number]
        out.append(f'<text x="{WIDTH - MARGIN - 200 + 80 * number}" y="{MARGIN - 8}" fill="{COLOURS[number % len(COLOURS)]}">{name}</text>')
    out.append("</svg>")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(out) + "\n")


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
    plot(found["step"], PLOT)
    print(f"  step response: {PLOT.relative_to(ROOT)}")
    bench_real(report, quick)
