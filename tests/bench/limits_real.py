"""How exactly limits hold where they act: jobs of two users on four nodes, real mounts, the slow origin."""

import pwd
import re
import shlex
import shutil
import statistics
import sys
import threading
import time
from pathlib import Path

import datasets
from cluster import ROOT, USERS, Cluster, ClusterError, Settings
from limits_plot import plot
from report import Report, progress

LOAD = Path(__file__).with_name("limit_load.py")
PORT = 9818
SETTLE, WINDOW = 5, 10  # seconds: until the loop has settled; over which a rate is taken
WINDOWS = {False: 3, True: 1}  # of which the median counts, by "quick"
STEP_RATE, STEP_BIN = 100_000_000, 500  # bytes per second; milliseconds
STEP_PLOT = ROOT / "build" / "bench" / "limits-step-real.svg"
MEGA = 1_000_000
LINE = re.compile(r'^atlas_origin_(read_bytes|operations)_total\{uid="(\d+)"\} (\S+)$', re.MULTILINE)


class Load:
    """Processes of a user that read a dataset of which next to nothing may be kept."""

    def __init__(self, cluster: Cluster, root: Path, user: str, nodes: list[str], processes: int, size: int, times: Path | None = None) -> None:
        self.cluster = cluster
        each = max(1, processes // len(nodes))
        program = cluster.state / "jobs" / LOAD.name  # the checkout may be closed to users
        if not program.exists():  # another load's may be about to read it
            shutil.copyfile(LOAD, program)
        words = [sys.executable, str(program), str(root / "file"), str(each), str(size), *([str(times)] if times else [])]
        self.jobs = [cluster.submit(f"exec {shlex.join(words)}", f"--atlas-dataset={root}", "--atlas-cache=120M", "-w", node, user=user)
                     for node in nodes]
        for job in self.jobs:
            cluster.wait_state(job, "RUNNING", timeout=120)

    def end(self) -> None:
        for job in self.jobs:
            if self.cluster.job_state(job) != "RUNNING":
                raise ClusterError(f"job {job}, which reads until it is ended, has ended by itself\n{self.cluster.job_output(job)}")
            self.cluster.run("scancel", "--signal=TERM", "--full", str(job)).check()
        for job in self.jobs:
            self.cluster.wait_done(job, 60)


def read_so_far(cluster: Cluster) -> dict[tuple[str, int], float]:
    """("read_bytes" or "operations", uid) -> all nodes' agents' own count."""
    out: dict[tuple[str, int], float] = {}
    for node in cluster.node_names:
        text = cluster.run("curl", "--fail", "--silent", "--max-time", "10", f"http://127.0.0.1:{PORT}/metrics", node=node).check().out
        for what, uid, value in LINE.findall(text):
            out[what, int(uid)] = out.get((what, int(uid)), 0) + float(value)
    return out


def rates(cluster: Cluster, what: str, windows: int) -> dict[str, float]:
    """By user, the median of windows that follow each other, once things have settled."""
    time.sleep(SETTLE)
    marks = [(time.monotonic(), read_so_far(cluster))]
    for _ in range(windows):
        time.sleep(WINDOW)
        marks.append((time.monotonic(), read_so_far(cluster)))
    return {user: statistics.median((after.get((what, uid), 0) - before.get((what, uid), 0)) / (end - begin)
                                    for (begin, before), (end, after) in zip(marks, marks[1:]))
            for user in USERS for uid in [pwd.getpwnam(user).pw_uid]}


def verdict(goal: str, reached: bool) -> str:
    return f"goal: {goal}: {'reached' if reached else 'NOT reached'}"


def limit(cluster: Cluster, *words: str) -> None:
    cluster.run("atlasctl", "limit", "set", *words).check()


def no_limit(cluster: Cluster, *words: str) -> None:
    cluster.run("atlasctl", "limit", "delete", *words).check()


def held(report: Report, cluster: Cluster, root: Path, quick: bool) -> None:
    user, nodes, windows = USERS[0], cluster.node_names, WINDOWS[quick]
    cases = [("--read", rate, processes, where) for rate in (10, 50, 200) for processes, where in ((1, nodes[:1]), (8, nodes[:1]), (64, nodes))]
    cases += [("--ops", rate, processes, where) for rate in (200, 5000) for processes, where in ((1, nodes[:1]), (8, nodes[:1]), (64, nodes))]
    free: dict[tuple[str, int], float] = {}  # which no limit can be above
    for processes, where in ((1, nodes[:1]), (8, nodes[:1]), (64, nodes)):
        for what, size, unit, one in (("read_bytes", 1 << 20, "MB/s", MEGA), ("operations", 4096, "operations/s", 1)):
            load = Load(cluster, root, user, where, processes, size)
            free[what, processes] = rates(cluster, what, windows)[user]
            report.add(f"without a limit, {processes} process{'es' if processes > 1 else ''}, {len(where)} node{'s' if len(where) > 1 else ''}",
                       free[what, processes] / one, unit)
            load.end()
    for option, rate, processes, where in cases[::4] if quick else cases:
        data = option == "--read"
        what, one = ("read_bytes", MEGA) if data else ("operations", 1)
        set_to = rate * one
        limit(cluster, "--user", user, option, str(set_to), "--burst", "100ms")
        load = Load(cluster, root, user, where, processes, 1 << 20 if data else 4096)
        got = rates(cluster, what, windows)[user]
        load.end()
        no_limit(cluster, "--user", user)
        report.add(f"{rate} {'MB/s' if data else 'operations/s'}, {processes} process{'es' if processes > 1 else ''}, "
                   f"{len(where)} node{'s' if len(where) > 1 else ''}", got / one, "MB/s" if data else "/s",
                   against="set" if set_to <= free[what, processes] else "without a limit", reference=min(set_to, free[what, processes]) / one,
                   note=verdict("within 3%", abs(got / set_to - 1) <= 0.03) if set_to <= free[what, processes] else "cannot ask for so much")


def shared(report: Report, cluster: Cluster, roots: dict[str, Path], quick: bool) -> None:
    windows = WINDOWS[quick]
    loads = [Load(cluster, roots[user], user, cluster.node_names, 16, 1 << 20) for user in USERS]
    free = sum(rates(cluster, "read_bytes", windows).values())
    limit(cluster, "--origin", "lustre", "--read", str(int(free)))
    got = rates(cluster, "read_bytes", windows)
    report.add("two users, the origin's limit as what it gives", sum(got.values()) / MEGA, "MB/s", against="without limits", reference=free / MEGA,
               note=verdict("97% at least", sum(got.values()) >= 0.97 * free))
    values = list(got.values())
    jain = sum(values) ** 2 / (len(values) * sum(v * v for v in values))
    report.add("Jain's index of these two", jain, "", against="at least", reference=0.99, note=verdict("0.99 at least", jain >= 0.99))
    limit(cluster, "--user", USERS[0], "--weight", "2")
    got = rates(cluster, "read_bytes", windows)
    times = got[USERS[0]] / got[USERS[1]]
    report.add("weight 2 to 1", times, "", against="set", reference=2, note=verdict("within 5%", abs(times / 2 - 1) <= 0.05))
    for load in loads:
        load.end()
    no_limit(cluster, "--user", USERS[0])
    no_limit(cluster, "--origin", "lustre")


def percentile(path: Path, part: float) -> float:
    times = sorted(float(line) for line in path.read_text().split())
    return times[int(part * (len(times) - 1))]


def victim(report: Report, cluster: Cluster, roots: dict[str, Path], quick: bool) -> None:
    """One reader of a user on a node where 64 processes of another wait for their limit; the origin takes 10 ms for everything."""
    cluster.origin_ctl("latency", "10")
    times = cluster.state / "jobs" / "times"
    node = cluster.node_names[:1]
    alone, beside = [], []
    limit(cluster, "--user", USERS[1], "--read", str(20 * MEGA))
    for _ in range(1 if quick else 3):
        for out in (alone, beside):
            crowd = Load(cluster, roots[USERS[1]], USERS[1], node, 64, 1 << 20) if out is beside else None
            if crowd:
                time.sleep(SETTLE)
            times.unlink(missing_ok=True)
            one = Load(cluster, roots[USERS[0]], USERS[0], node, 1, 128 << 10, times)
            time.sleep(WINDOW)
            one.end()
            out.append(percentile(times, 0.99))
            if crowd:
                crowd.end()
    no_limit(cluster, "--user", USERS[1])
    cluster.origin_ctl("latency", "0")
    times_alone = statistics.median(beside) / statistics.median(alone)
    report.add("p99 of a reader's reads (queues and origin) beside 64 limited processes", 1000 * statistics.median(beside), "ms", against="alone",
               reference=1000 * statistics.median(alone), samples={"alone": alone, "beside": beside},
               note=verdict("1.3 times at most", times_alone <= 1.3))


def step(report: Report, cluster: Cluster, roots: dict[str, Path], seconds: int = 45) -> None:
    """One user stays, another of twice his weight comes and goes: what the agents count, drawn."""
    limit(cluster, "--origin", "lustre", "--read", str(STEP_RATE))
    limit(cluster, "--user", USERS[1], "--weight", "2")
    stays = Load(cluster, roots[USERS[0]], USERS[0], cluster.node_names, 16, 1 << 20)
    time.sleep(SETTLE)
    began, marks, spans = time.monotonic(), [], []

    def come_and_go() -> None:
        time.sleep(seconds / 4)
        comes = Load(cluster, roots[USERS[1]], USERS[1], cluster.node_names, 16, 1 << 20)
        spans.append(time.monotonic() - began)
        time.sleep(seconds / 2)
        comes.end()
        spans.append(time.monotonic() - began)

    other = threading.Thread(target=come_and_go)
    other.start()
    while (now := time.monotonic() - began) < seconds or other.is_alive():
        counts = read_so_far(cluster)  # of one node after the other
        marks.append(((now + time.monotonic() - began) / 2, counts))
        time.sleep(0.2)
    other.join()
    stays.end()
    no_limit(cluster, "--user", USERS[1])
    no_limit(cluster, "--origin", "lustre")
    users = [binned([(at, counts.get(("read_bytes", pwd.getpwnam(user).pw_uid), 0)) for at, counts in marks], STEP_BIN) for user in USERS]
    plot({"capacity": STEP_RATE, "bin_ms": STEP_BIN, "users": users}, f"4 real nodes, limit {STEP_RATE // MEGA} MB/s",
         ("one who stays", f"{spans[0]:.0f} to {spans[1]:.0f} s, weight 2"), STEP_PLOT)
    print(f"  step response: {STEP_PLOT.relative_to(ROOT)}")
    after = [sum(rates) for rates in zip(*users)]
    highest = max(sum(after[i:i + 2]) / 2 for i in range(len(after) - 1)) if len(after) > 1 else 0
    report.add("users come and go: the highest second of all together", highest / MEGA, "MB/s", against="limit", reference=STEP_RATE / MEGA,
               note="as read from the agents, about three times a second")


def binned(counts: list[tuple[float, float]], bin_ms: int) -> list[float]:
    """Rates in bins, of a count at times: between two of them it is taken to grow evenly."""
    def count_at(at: float) -> float:
        for (begin, low), (end, high) in zip(counts, counts[1:]):
            if begin <= at <= end:
                return low + (high - low) * (at - begin) / max(end - begin, 1e-9)
        return counts[0][1] if at < counts[0][0] else counts[-1][1]
    bins = int(counts[-1][0] * 1000 / bin_ms)
    return [(count_at((i + 1) * bin_ms / 1000) - count_at(i * bin_ms / 1000)) * 1000 / bin_ms for i in range(bins)]


def bench_real(report: Report, quick: bool) -> None:
    progress("limits, set against measured: 2 users, 4 nodes, the slow origin, 10 s each")
    cluster = Cluster(Settings(nodes=4, preset="release", slow_origin=True, agent_extra=f'metrics = "127.0.0.1:{PORT}"\n')).up()
    try:
        roots = {user: cluster.origin / f"data-{user}" for user in USERS}
        for user, root in roots.items():
            datasets.big_file(root / "file", 2 << 30, seed=len(user) + int(user[-1]))
        cluster.origin_ctl("bandwidth", "400M")
        held(report, cluster, roots[USERS[0]], quick)
        cluster.origin_ctl("bandwidth", "150M")
        shared(report, cluster, roots, quick)
        step(report, cluster, roots)
        cluster.origin_ctl("bandwidth", "unlimited")
        victim(report, cluster, roots, quick)
    finally:
        cluster.down()
