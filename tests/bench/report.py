"""What every section of the benchmark uses: the table, and ways to measure fairly."""

import os
import time
from collections.abc import Callable
from pathlib import Path

LATENCY, BANDWIDTH = 1, "500M"  # of the slow origin: milliseconds per operation, bytes per second
READERS = 48  # as many operations in flight as Atlas uses by default


class Report:
    """Rows of one table: what, value, compared with, ratio; and the same as JSON."""

    def __init__(self) -> None:
        self.rows: list[dict] = []

    def add(self, what: str, value: float, unit: str, *, against: str = "", reference: float | None = None, difference: bool = False,
            note: str = "", samples: object = None) -> None:
        row = {"what": what, "value": value, "unit": unit, "against": against, "reference": reference, "note": note, "samples": samples}
        if reference is not None:
            row["difference" if difference else "ratio"] = value - reference if difference else value / reference
        self.rows.append(row)
        print("  " + self.line(row), flush=True)

    @staticmethod
    def number(value: float | None, unit: str) -> str:
        if value is None:
            return ""
        return f"{value:.2f} {unit}" if abs(value) < 100 else f"{value:.0f} {unit}"

    def cells(self, row: dict) -> list[str]:
        compared = f"{row['difference']:+.2f} {row['unit']}" if "difference" in row else f"{row['ratio']:.2f}" if "ratio" in row else ""
        return [row["what"], self.number(row["value"], row["unit"]), row["against"], self.number(row["reference"], row["unit"]), compared,
                row["note"]]

    def line(self, row: dict) -> str:
        return "  ".join(cell for cell in self.cells(row) if cell)

    def table(self) -> str:
        rows = [["MEASURED", "VALUE", "AGAINST", "VALUE", "RATIO / DIFF", "NOTE"]] + [self.cells(row) for row in self.rows]
        widths = [max(len(row[i]) for row in rows) for i in range(6)]
        return "\n".join("  ".join(c.rjust(w) if i in (1, 3, 4) else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths))).rstrip()
                         for row in rows)


def progress(text: str) -> None:
    print(f"\n{text}", flush=True)


def drop_caches() -> None:
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")


def interval(samples: list[float]) -> tuple[float, float]:
    """Order statistics around the median: at least 95% sure for 10 samples and more, whatever their distribution."""
    ordered = sorted(samples)
    cut = max(0, int(len(ordered) / 2 - 0.98 * len(ordered) ** 0.5 - 0.5))
    return ordered[cut], ordered[-1 - cut]


def pairs(measure_a: Callable[[], float], measure_b: Callable[[], float], count: int) -> list[tuple[float, float]]:
    """ABBA: what drifts on the machine falls on both."""
    measured = []
    for number in range(count):
        if number % 2 == 0:
            a = measure_a()
            b = measure_b()
        else:
            b = measure_b()
            a = measure_a()
        measured.append((a, b))
    return measured


def in_turns(measures: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Each once per round, every other round backwards: what drifts on the machine falls on all."""
    out: dict[str, list[float]] = {name: [] for name in measures}
    for number in range(rounds):
        names = list(measures) if number % 2 == 0 else list(reversed(measures))
        for name in names:
            out[name].append(measures[name]())
    return out


def timed(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began
