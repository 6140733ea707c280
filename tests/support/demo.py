"""./dev demo: one dataset, two jobs, end to end, on a real 4-node Slurm cluster with a slow origin on this machine."""

import hashlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path

from cluster import ROOT, Cluster, ClusterError, Settings
from world_client import WorldError

SOUNDS = Path("/usr/share/asterisk/sounds")  # of the packages asterisk-core-sounds-*-wav
LATENCY, BANDWIDTH = 2, "40M"
KEPT_LOGS = ROOT / "build" / "demo-logs"
JOB_TIME = 120  # seconds for a job from its submission to its end

HASHES = """\
cd "{dataset}"
began=$(date +%s.%N)
find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum >"{hashes}"
ended=$(date +%s.%N)
echo "read_seconds $(echo "$began $ended" | awk '{{ printf "%.2f", $2 - $1 }}')"
echo "state $ATLAS_CACHE_STATE"
"""


class Failed(Exception):
    """The demo did not show what it promises."""


@dataclass
class Result:
    title: str
    job: int
    user: str
    node: str
    waited: float
    read_bytes: int
    hit_bytes: int
    origin_bytes: int
    read_seconds: float


def paint(code: str, text: str) -> str:
    return f"\033[{code}m{text}\033[0m" if sys.stdout.isatty() else text


def step(title: str, why: str = "") -> None:
    print(f"\n{paint('1;36', '==')} {paint('1', title)}")
    if why:
        print(textwrap.fill(why, 110, initial_indent="   ", subsequent_indent="   "))
    sys.stdout.flush()


def command(line: str) -> None:
    print(f"   {paint('33', '$ ' + line)}", flush=True)


def mega(count: int) -> str:
    return f"{count / 2**20:.1f}M" if count else "0"


class Demo:
    def __init__(self, cluster: Cluster):
        self.cluster = cluster
        self.dataset = cluster.origin / "speech"
        self.jobs = cluster.state / "jobs"
        self.problems: list[str] = []
        self.truth = ""  # the origin's own list of hashes
        self.bytes = 0

    def check(self, holds: bool, problem: str) -> None:
        if not holds:
            self.problems.append(problem)

    # ---- data -------------------------------------------------------------------------------------------------------

    def take_data(self) -> None:
        files = sorted(p.relative_to(SOUNDS) for p in SOUNDS.rglob("*.wav"))
        if len(files) < 1000:
            raise Failed(f"{SOUNDS} holds {len(files)} WAV files: are the asterisk-core-sounds-*-wav packages installed?")
        lines = []
        for file in files:
            data = (SOUNDS / file).read_bytes()
            target = self.dataset / file
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
            shutil.copystat(SOUNDS / file, target)
            self.bytes += len(data)
            lines.append((f"./{file}".encode(), f"{hashlib.sha256(data).hexdigest()}  ./{file}\n"))
        self.truth = "".join(line for _, line in sorted(lines))
        self.jobs.mkdir(exist_ok=True)
        self.jobs.chmod(0o1777)
        print(f"   {len(files)} spoken prompts in five languages, {mega(self.bytes)}, at {self.dataset}")

    # ---- jobs -------------------------------------------------------------------------------------------------------

    def script(self, name: str, directives: str = "") -> Path:
        path = self.jobs / f"{name}.sh"
        body = HASHES.format(dataset=self.dataset, hashes=self.jobs / f"{name}.sha256")
        path.write_text(f"#!/bin/bash\n#SBATCH --output={self.jobs}/%j.out\n{directives}{body}")
        path.chmod(0o755)
        return path

    def show(self, user: str, *argv: str, timeout: float = 60) -> str:
        """Runs a command of the cluster as `user`, as he would type it; its stderr goes to the terminal. Its stdout comes back."""
        account = pwd.getpwnam(user)
        command(f"{' '.join(argv)}".replace(str(self.cluster.origin), "$ATLAS_ORIGIN").replace(f"{self.jobs}/", ""))
        process = subprocess.Popen(
            [self.cluster.state / "bin" / argv[0], *argv[1:]], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
            cwd=self.jobs, user=account.pw_uid, group=account.pw_gid,
            extra_groups=os.getgrouplist(user, account.pw_gid), env=os.environ | {"HOME": "/", "LANG": "C.UTF-8"})
        try:
            out, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise Failed(f"{argv[0]} was not done within {timeout:g} s") from None
        print(textwrap.indent(out, "   "), end="", flush=True)
        if process.returncode != 0:
            raise Failed(f"{argv[0]} ended with exit code {process.returncode}")
        return out

    @staticmethod
    def job_id(out: str) -> int:
        words = [w for w in out.split() if w.isdigit()]
        if not words:
            raise Failed(f"no job was submitted: {out!r}")
        return int(words[-1])

    def result(self, title: str, name: str, job: int, user: str) -> Result:
        fields = self.cluster.wait_done(job, JOB_TIME)
        origin_bytes = self.cluster.origin_stats()["read_bytes"]
        status = self.cluster.receipt(job)
        said = dict(line.split(" ", 1) for line in self.cluster.job_output(job).splitlines()
                    if line.startswith(("read_seconds ", "state ")))
        hashes = (self.jobs / f"{name}.sha256").read_text()
        count = len(hashes.splitlines())
        self.check(hashes == self.truth, f"{title}: what the job read is not what the origin holds; compare "
                                         f"{name}.sha256 ({count} files) with origin.sha256")
        self.check(said.get("state", "").endswith("=complete"),
                   f"{title}: its data was not complete on the node: ATLAS_CACHE_STATE='{said.get('state', '')}'")
        read = self.bytes if hashes == self.truth else 0
        # What Atlas copied while warming is not the job's own reading; the rest of the origin's bytes is.
        missed = max(0, origin_bytes - status["receipt"]["origin_bytes"])
        return Result(title, job, user, fields["NodeList"], status["receipt"]["waited"], read, max(0, read - missed),
                      origin_bytes, float(said.get("read_seconds", "nan")))

    # ---- the story --------------------------------------------------------------------------------------------------

    def occupy(self, node: str) -> int:
        return self.cluster.submit("sleep 600", "--exclusive", "-w", node, "-J", "other-work", user="atlas2")

    def first(self) -> Result:
        script = self.script("job1")
        self.cluster.origin_ctl("reset")
        out = self.show("atlas1", "atlas-submit", "--dataset", str(self.dataset), "--cache", "2G", "--warm", "--follow",
                        str(script), timeout=JOB_TIME)
        result = self.result("job 1", "job1", self.job_id(out), "atlas1")
        # A file may be read twice where a read was repeated; less than once would mean that somebody else read it.
        self.check(result.origin_bytes >= self.bytes, f"job 1: only {result.origin_bytes} of {self.bytes} bytes came from the origin: "
                                                      "where did it get the rest?")
        return result

    def second(self) -> Result:
        directives = (f"#SBATCH --atlas-dataset={self.dataset}\n#SBATCH --atlas-cache=2G\n#SBATCH --atlas-warm\n")
        script = self.script("job2", directives)
        print(textwrap.indent(directives.replace(str(self.cluster.origin), "$ATLAS_ORIGIN"), "   | "), end="")
        self.cluster.origin_ctl("reset")
        out = self.show("atlas2", "sbatch", str(script))
        return self.result("job 2", "job2", self.job_id(out), "atlas2")

    def run(self) -> None:
        step("Real data on the origin", "Thousands of small WAV files, as a speech training set has them.")
        self.take_data()
        (self.jobs / "origin.sha256").write_text(self.truth)
        nodes = self.cluster.node_names
        busy = [self.occupy(node) for node in nodes[:2]]
        for job in busy:
            self.cluster.wait_state(job, "RUNNING")
        step("Job 1, by atlas-submit: warm the cache, then start",
             f"Nobody has the data yet. Atlas chooses a node ({nodes[0]} and {nodes[1]} are busy with other work), copies the data "
             "there and starts the job when it is complete. The job hashes every file, at the path where the data always was.")
        first = self.first()
        self.cluster.run("scancel", *map(str, busy)).check()
        for job in busy:
            self.cluster.wait_state(job, "CANCELLED")
        step("Where is the data now?", "All nodes are idle again. One of them holds the data.")
        placement = self.show("atlas1", "atlasctl", "placement", str(self.dataset))
        self.check(first.node in placement, f"atlasctl placement does not name {first.node}")
        step("Job 2, by plain sbatch: another user, the same data",
             f"The script carries #SBATCH directives. Slurm alone would take {nodes[0]}; Atlas sends it to {first.node}.")
        second = self.second()
        self.check(second.node == first.node, f"job 2 ran on {second.node}, the data is on {first.node}")
        self.check(second.origin_bytes == 0, f"job 2 made the origin read {second.origin_bytes} bytes; 0 expected")
        self.check(second.hit_bytes == self.bytes, f"job 2 had {second.hit_bytes} of {self.bytes} bytes from its node")
        self.check(self.cluster.sinfo_R() == "", "a node was drained: " + self.cluster.sinfo_R())
        self.table([first, second])

    def table(self, results: list[Result]) -> None:
        step("Result")
        rows = [("", "JOB", "USER", "NODE", "WAITED", "HIT BYTES", "ORIGIN BYTES", "READ TIME")]
        for r in results:
            rows.append((r.title, str(r.job), r.user, r.node, f"{r.waited:.1f} s", mega(r.hit_bytes), mega(r.origin_bytes),
                         f"{r.read_seconds:.2f} s"))
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        for number, row in enumerate(rows):
            cells = [cell.ljust(w) if i < 4 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths))]
            line = "   " + "  ".join(cells).rstrip()
            print(paint("1", line) if number == 0 else line)
        print("   WAITED: held back until the data was there. HIT: read from the node. ORIGIN: data bytes the origin itself\n"
              "   counted from submission to end, warm-up included. READ TIME: hashing every file inside the job.")


def keep_logs(cluster: Cluster) -> None:
    shutil.rmtree(KEPT_LOGS, ignore_errors=True)
    for part in ("log", "etc", "jobs"):
        if (cluster.state / part).exists():
            shutil.copytree(cluster.state / part, KEPT_LOGS / part)


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGHUP, lambda *_: sys.exit(129))
    began = time.monotonic()
    cluster = Cluster(Settings(nodes=4, origin_latency=LATENCY, origin_bandwidth=BANDWIDTH, origin_cache=1))
    problems: list[str] = []
    try:
        step("A Slurm cluster with Atlas on this machine",
             f"munged, slurmctld, atlas-controller, and on each of 4 nodes slurmd, atlas-view-holder and atlas-cache-agent. The data lies behind a "
             f"slow origin ({LATENCY} ms per operation, {BANDWIDTH}B/s for all together): a stand-in for Lustre that counts what is read.")
        for program in ("atlas-controller", "atlas-cache-agent", "atlas-view-holder", "atlas-submit", "atlasctl"):
            if not (cluster.binaries / program).exists():
                raise Failed(f"{cluster.binaries / program} is missing: ./dev build")
        cluster.up()
        print(cluster.run("sinfo", "-N", "-o", "   %8N %10T %C").out.rstrip())
        demo = Demo(cluster)
        demo.run()
        problems = demo.problems
    except KeyboardInterrupt:
        print("\ndemo: interrupted; the cluster is taken down", file=sys.stderr)
        return 130
    except (Failed, ClusterError, WorldError) as error:
        problems = [str(error)]
    finally:
        if problems and cluster._state is not None:
            keep_logs(cluster)
        cluster.down()
    if problems:
        sys.stdout.flush()
        for problem in problems:
            print(f"demo: FAILED: {problem}", file=sys.stderr)
        print(f"demo: logs of all daemons and the jobs' files are in {KEPT_LOGS}", file=sys.stderr)
        return 1
    print(f"\n{paint('1;32', 'All as promised')}, in {time.monotonic() - began:.0f} s: both jobs read exactly what the origin holds, and job 2 "
          "read it from the node that held it.\nTry it yourself:  ./dev cluster up   then   eval \"$(./dev cluster env)\"")
    return 0


if __name__ == "__main__":
    sys.exit(main())
