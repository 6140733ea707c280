"""How users' rates answer when others come and go, drawn."""

from pathlib import Path

COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd")
WIDTH, HEIGHT, MARGIN = 900, 360, 50


def plot(step: dict, title: str, names: tuple[str, ...], path: Path) -> None:
    """Lines over time, one for each user and one for all, as an SVG. `step`: bytes per second of each user in bins of bin_ms."""
    capacity, seconds = step["capacity"], len(step["users"][0]) * step["bin_ms"] / 1000
    top = 1.25 * capacity

    def x(t: float) -> float:
        return MARGIN + t / seconds * (WIDTH - 2 * MARGIN)

    def y(rate: float) -> float:
        return HEIGHT - MARGIN - min(rate, top) / top * (HEIGHT - 2 * MARGIN)

    back = max(0, 500 // step["bin_ms"] - 1)

    def smooth(values: list[float]) -> list[float]:  # half a second
        return [sum(values[max(0, i - back):i + 1]) / len(values[max(0, i - back):i + 1]) for i in range(len(values))]

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
    out.append(f'<text x="{MARGIN}" y="{MARGIN - 24}">MB/s from the origin, mean of 0.5 s. {title}</text>')
    out.append(line([sum(rates) for rates in zip(*step["users"])], "#555", 1))
    out.append(f'<text x="{WIDTH - MARGIN - 230}" y="{MARGIN - 8}" fill="#555">all</text>')
    for number, rates in enumerate(step["users"]):
        out.append(line(rates, COLOURS[number % len(COLOURS)], 2))
        out.append(f'<text x="{WIDTH - MARGIN - 200 + 80 * number}" y="{MARGIN - 8}" fill="{COLOURS[number % len(COLOURS)]}">{names[number]}</text>')
    out.append("</svg>")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(out) + "\n")
