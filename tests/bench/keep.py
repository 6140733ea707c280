"""What an epoch finds in a cache smaller than the data."""

import json
import subprocess

from cluster import ROOT
from report import Report


def bench_keep(report: Report, quick: bool) -> None:
    """Three epochs in random order; the first one finds nothing, the third one stands for all later ones."""
    program = ROOT / "build" / "release" / "bin" / "keep-policy"
    for percent in (25, 50, 75):
        argv = [program, "10000" if quick else "100000", str(percent), "3", "7"]
        ratios = json.loads(subprocess.run(list(map(str, argv)), capture_output=True, text=True, check=True).stdout)
        report.add(f"hits of an epoch, cache {percent}% of the data", 100 * ratios["kept"][-1], "%", against="least recently used",
                   reference=100 * ratios["lru"][-1], samples=ratios)
