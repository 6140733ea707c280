"""How long readers of a partial replica wait when their node's agent is killed and started again, under load."""

import statistics
import threading
import time

import datasets
from cluster import Cluster, ClusterError, Settings
from report import Report, progress
from view import Reader
from warm import TREE_IO

WORKERS = 16
SECONDS = 4  # of reading around each kill


def bench_takeover(report: Report, quick: bool) -> None:
    kills, files = (2, 500) if quick else (10, 4000)
    progress(f"an agent killed {kills} times while {WORKERS} readers read and another dataset is warmed")
    cluster = Cluster(Settings(nodes=1, preset="release")).up()
    try:
        root, other = cluster.origin / "read", cluster.origin / "warmed"
        datasets.small_files(root, files, 100 * 1024)
        datasets.small_files(other, files * 5, 100 * 1024)
        reader = Reader(cluster, root)
        reader.expect("fuse")
        reader.epoch(cold=False)

        def longest(kill: bool) -> float:
            """Of the reads; the agent starts as soon as it has ended: what systemd waits (RestartSec) comes on top."""
            found: list[float] = []

            def read() -> None:
                done = cluster.run("nsenter", "-m", "-t", str(reader.pid), TREE_IO, "longest", root, str(WORKERS), str(SECONDS), node="n001",
                                   timeout=120)
                if done.code != 0:
                    raise ClusterError(f"a read failed: {done.err}")
                found.append(float(done.out))

            cluster.run("atlasctl", "evict", str(other))
            cluster.sh(f"atlasctl dataset warm {other} --node n001 >/dev/null 2>&1 &").check()
            reading = threading.Thread(target=read)
            reading.start()
            time.sleep(SECONDS / 2)
            if kill:
                cluster.kill_daemon("agent n001")
                cluster.start("agent n001")
            reading.join()
            cluster.wait_agents()
            if not found:
                raise ClusterError("a read failed: see above")
            return found[0]

        undisturbed = [longest(kill=False) for _ in range(2)]
        pauses = [longest(kill=True) for _ in range(kills)]
        reader.end()
    finally:
        cluster.down()
    report.add("takeover, longest read, median", statistics.median(pauses), "s", against="goal", reference=0.5, samples=pauses)
    report.add("takeover, longest read, worst", max(pauses), "s", against="undisturbed", reference=max(undisturbed), samples=undisturbed)
