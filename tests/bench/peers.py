"""What N nodes that are warmed with one dataset ask of the origin, against one node; the rest comes from each other."""

import shutil

import datasets
from cluster import USERS, Cluster, Settings
from report import BANDWIDTH, LATENCY, Report, progress, timed

MOST = 8


def bench_peers(report: Report, quick: bool) -> None:
    files, size, big = (500, 100 * 1024, 64 << 20) if quick else (4000, 100 * 1024, 1 << 30)
    progress(f"1, 2, 4 and {MOST} nodes, on this machine's CPUs, warmed at once with {files} files of 100 KiB, and one of {big >> 20} MiB")
    cluster = Cluster(Settings(nodes=MOST, preset="release", slow_origin=True)).up()
    try:
        cluster.origin_ctl("latency", str(LATENCY))
        cluster.origin_ctl("bandwidth", BANDWIDTH)
        for name, fill in (("small", lambda root: datasets.small_files(root, files, size)),
                           ("large", lambda root: datasets.big_file(root / "file", big))):
            alone: dict[str, float] = {}
            for count in (1, 2, 4, MOST):
                root = cluster.origin / f"{name}-{count}"
                total = fill(root)
                cluster.origin_ctl("reset")
                nodes = ",".join(cluster.node_names[:count])
                seconds = timed(lambda: cluster.run("atlasctl", "dataset", "warm", str(root), "--node", nodes, user=USERS[0], cwd="/tmp",
                                                    timeout=600).check())
                stats = cluster.origin_stats()
                asked = {"bytes": stats["read_bytes"] / 1e6, "operations": stats["ops_total"]}
                alone = alone or {**asked, "seconds": seconds}
                who = f"{name}, {count} node{'s' if count > 1 else ''}"
                report.add(f"{who}: origin data", asked["bytes"], "MB", against="its size", reference=total / 1e6, note="goal: at most 1.02")
                report.add(f"{who}: origin operations", asked["operations"], "", against="one node", reference=alone["operations"],
                           note="goal: at most 1.1")
                report.add(f"{who}: time", seconds, "s", against="one node", reference=alone["seconds"])
                shutil.rmtree(root)
    finally:
        cluster.down()
