"""Submit and burst buffer hooks on a real slurmctld, with no controller: whatever breaks, jobs are accepted and run.

Jobs are submitted by raw-submit, which sends what any client may send, so the SPANK plugin is not needed and forging is easy.
"""

import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster import ROOT, USERS, Cluster, Settings, wait_for

GRACE = 4
SETTINGS = Settings(nodes=2, slow_origin=False, atlas_extra=f"""
[warm]
max_wait = "6s"
controller_grace = "{GRACE}s"
""")
WAIT = "v1,w=wait,d=/lustre/speech"
NONE = "v1,d=/lustre/speech"


class Submitter:
    def __init__(self, cluster: Cluster):
        self.cluster = cluster
        self.tool = cluster._inside("build", cluster.settings.preset, "tests", "raw-submit")

    def __call__(self, request: str | None, *options: str, script: str = "#!/bin/sh\ntrue\n", user: str = USERS[0],
                 code: int = 0) -> int:
        spank = [] if request is None else ["--spank", "ATLAS_REQ=" + request]
        done = self.cluster.run(self.tool, *spank, *options, user=user, stdin=script.encode())
        assert done.code == code, done.out + done.err
        self.said = done.err
        return int(done.out) if done.code == 0 else 0


@pytest.fixture
def submit(cluster: Cluster) -> Iterator[Submitter]:
    yield Submitter(cluster)
    cluster.run("scancel", "-u", USERS[0])


@pytest.fixture(scope="module", autouse=True)
def no_controller(cluster: Cluster) -> None:
    if cluster.has("controller") and cluster.running("controller"):
        cluster.stop("controller")


def record(cluster: Cluster, job: int) -> dict:
    tool = cluster._inside("build", cluster.settings.preset, "tests", "slurm-port-probe")
    return json.loads(cluster.run(tool, "job", str(job)).out)


def logged(cluster: Cluster) -> str:
    return (cluster.log_dir / "slurmctld.log").read_text(errors="replace")


def waited(cluster: Cluster, job: int) -> int:
    fields = record(cluster, job)
    return fields["start"] - fields["submitted"]


def test_a_job_that_waits_gets_the_directive_and_starts_after_the_grace(cluster: Cluster, submit: Submitter) -> None:
    job = submit(WAIT)
    fields = record(cluster, job)
    assert fields["burst_buffer"] == f"#BB_LUA atlas pool=atlas capacity=1 req={WAIT}"
    wait_for(lambda: "atlas-begin:" in record(cluster, job)["admin_comment"], 20, "data_in has parked the job")
    cluster.wait_done(job)
    assert GRACE <= waited(cluster, job) < GRACE + 12
    assert re.search(rf"data_in of job {job}: .*10\.77\.0\.1:817.*waits {GRACE}s for the controller", logged(cluster))
    for hook in ("pre_run", "teardown"):
        wait_for(lambda: f"{hook} of job {job}: " in logged(cluster), 10, f"{hook} ran")


def test_a_job_that_does_not_wait_is_not_delayed(cluster: Cluster, submit: Submitter) -> None:
    job = submit(NONE)
    cluster.wait_done(job)
    assert "atlas-begin" not in record(cluster, job)["admin_comment"]
    assert waited(cluster, job) < 6


def test_the_wait_begins_at_the_users_own_begin_time(cluster: Cluster, submit: Submitter) -> None:
    own = int(time.time()) + 6
    job = submit(WAIT, "--begin", str(own))
    cluster.wait_done(job)
    fields = record(cluster, job)
    assert fields["start"] >= own + GRACE
    assert f"atlas-begin:{own}" in fields["admin_comment"]


def test_an_array_waits_in_its_begin_time_without_hooks(cluster: Cluster, submit: Submitter) -> None:
    before = int(time.time())
    job = submit(WAIT, "--array", "0-4")
    fields = record(cluster, job)
    assert fields["array_waiting"] and fields["burst_buffer"] == ""
    assert before + GRACE <= fields["begin"] <= int(time.time()) + GRACE, "the controller, when it is there, makes it longer"
    assert re.fullmatch(rf"atlas:{re.escape(WAIT)} atlas-begin:\d+", fields["admin_comment"])
    # The controller's release, by its tool: one update of the base id.
    tool = cluster._inside("build", cluster.settings.preset, "tests", "slurm-port-probe")
    cluster.run(tool, "patch", str(job), f"begin={int(time.time())}", user="slurm").check()
    for task in range(5):
        cluster.wait_done(f"{job}_{task}", timeout=30)
    assert f"data_in of job {job}" not in logged(cluster)


def test_an_array_starts_at_its_begin_time_without_anyones_help(cluster: Cluster, submit: Submitter) -> None:
    job = submit("v1,l=0.5@5,d=/lustre/speech", "--array", "1-2")
    for task in (1, 2):
        cluster.wait_done(f"{job}_{task}", timeout=40)
    assert waited(cluster, job) >= GRACE - 1


def test_a_users_own_directive_lives_beside_ours(cluster: Cluster, submit: Submitter) -> None:
    own = "#!/bin/sh\n#BB_LUA persistent name=x\n#BB_LUA second line\ntrue\n"
    job = submit(NONE, script=own)
    assert record(cluster, job)["burst_buffer"].splitlines() == [
        f"#BB_LUA atlas pool=atlas capacity=1 req={NONE}", "#BB_LUA persistent name=x", "#BB_LUA second line"]
    cluster.wait_done(job)
    job = submit(WAIT, "--bb", "#BB_LUA from the command line", script=own)
    assert record(cluster, job)["burst_buffer"].splitlines()[:2] == [
        f"#BB_LUA atlas pool=atlas capacity=1 req={WAIT}", "#BB_LUA from the command line"]
    cluster.wait_done(job)
    job = submit(None, script=own)  # no request: the user's alone
    cluster.wait_done(job)
    assert record(cluster, job)["burst_buffer"].splitlines()[0] == "#BB_LUA persistent name=x"


def test_bb_option_of_sbatch_is_kept(cluster: Cluster) -> None:
    job = cluster.submit("true", "--bb=#BB_LUA mine")
    cluster.wait_done(job)
    assert record(cluster, job)["burst_buffer"] == "#BB_LUA mine"


FORGED = ["v1,d=/a;touch /tmp/atlas-forged", "v1,d=$(id)", "v1,d=/a b", "v1,d=/a\n#BB_LUA capacity=1", "", "x" * 9000, "v1,d=/" + "a" * 8200,
          "v1,d='", "v1,d=\xff"]


def test_a_forged_request_is_dropped_and_the_job_runs(cluster: Cluster, submit: Submitter) -> None:
    jobs = []
    for forged in FORGED:
        jobs.append(submit(forged))
        assert "without Atlas" in submit.said, forged
    for job in jobs:
        fields = record(cluster, job)
        assert (fields["burst_buffer"], fields["admin_comment"]) == ("", "")
        cluster.wait_done(job)


def test_a_well_formed_lie_is_harmless(cluster: Cluster, submit: Submitter) -> None:
    """Right characters, wrong content: it reaches atlas-stage, which does not wait for it."""
    job = submit("v1,w=wait,w=wait,zz=1,d=%2")
    cluster.wait_done(job)
    assert waited(cluster, job) < 6
    assert f"data_in of job {job}: malformed request" in logged(cluster)


def test_a_directive_written_by_hand_counts_as_a_request_of_that_user(cluster: Cluster, submit: Submitter) -> None:
    job = submit(None, script=f"#!/bin/sh\n#BB_LUA atlas pool=atlas capacity=1 req={WAIT}\ntrue\n")
    cluster.wait_done(job)
    assert waited(cluster, job) >= GRACE - 1, "whole seconds, and Slurm's clock is not the hook's"


def test_roots_jobs_are_never_staged(cluster: Cluster, submit: Submitter) -> None:
    job = submit(WAIT, user="root")
    assert record(cluster, job)["burst_buffer"] == ""
    cluster.wait_done(job)


def test_a_longest_request_passes_whole(cluster: Cluster, submit: Submitter) -> None:
    """8 KiB is what a request may have, and with the directive's other words more than Slurm's field takes."""
    request = "v1,d=/" + "a" * (8 * 1024 - 6)
    job = submit(request)
    assert record(cluster, job)["admin_comment"] == "atlas:" + request
    cluster.wait_done(job)
    request = "v1,d=/" + "a" * 8000
    job = submit(request)
    assert record(cluster, job)["burst_buffer"].endswith(request)
    cluster.wait_done(job)


def test_a_held_job_is_staged_when_it_is_released(cluster: Cluster, submit: Submitter) -> None:
    job = cluster.submit(f"#BB_LUA atlas pool=atlas capacity=1 req={WAIT}\ntrue", "--hold")
    assert record(cluster, job)["held"]
    cluster.run("scontrol", "release", str(job), user=USERS[0]).check()
    cluster.wait_done(job)


def test_scancel_ends_a_parked_job_at_once(cluster: Cluster, submit: Submitter) -> None:
    job = submit(WAIT)
    wait_for(lambda: "atlas-begin:" in record(cluster, job)["admin_comment"], 20, "data_in has parked the job")
    cluster.run("scancel", str(job), user=USERS[0]).check()
    cluster.wait_state(job, "CANCELLED", timeout=10)


# ---- broken pieces ------------------------------------------------------------------------------------------------------


class Broken:
    """slurmctld with its Atlas files in a directory of the test's, to break them one by one."""

    def __init__(self, cluster: Cluster):
        self.cluster = cluster
        self.lua = cluster.state / "lua"
        self.libexec = cluster.state / "libexec"
        self.written = int(time.time())
        for directory in (self.lua, self.libexec):
            directory.mkdir(exist_ok=True)
        self.mend()

    def mend(self) -> None:
        for file in (ROOT / "etc" / "slurm").glob("*.lua"):
            (self.lua / file.name).write_text(file.read_text())
        self.helper(f'exec {self.cluster._inside("build", self.cluster.settings.preset, "bin", "atlas-stage")} "$@"')
        for name in ("burst_buffer.lua", "job_submit.lua"):
            self.script(name, (ROOT / "etc" / "slurm" / name).read_text())

    def script(self, name: str, text: str) -> None:
        """One of Slurm's own, beside slurm.conf; Slurm reads it again when its time, in seconds, has changed."""
        file = self.cluster.state / "etc" / name
        file.write_text(text)
        self.written += 1
        os.utime(file, (self.written, self.written))

    def helper(self, body: str) -> None:
        program = self.libexec / "atlas-stage"
        program.write_text("#!/bin/sh\n" + body + "\n")
        program.chmod(0o755)

    def restart(self) -> None:
        if self.cluster.running("slurmctld"):
            self.cluster.stop("slurmctld")
        self.cluster.start("slurmctld", env={"LUA_PATH": f"{self.lua}/?.lua", "ATLAS_LIBEXEC": str(self.libexec)})
        wait_for(lambda: self.cluster.run("scontrol", "ping").code == 0, 20, "slurmctld answers")
        wait_for(lambda: len(self.cluster.run("sinfo", "-h", "-N", "-t", "idle,mixed,alloc", "-o", "%N").out.split()) == 2, 30, "nodes idle")


@pytest.fixture(scope="module")
def pieces(cluster: Cluster) -> Broken:
    made = Broken(cluster)
    made.restart()
    return made


@pytest.fixture
def broken(cluster: Cluster, pieces: Broken) -> Iterator[Broken]:
    yield pieces
    pieces.mend()
    cluster.run("scancel", "-u", USERS[0])
    wait_for(lambda: cluster.run("squeue", "-h").out.strip() == "", 30, "the queue is empty")


@pytest.fixture
def restarted(broken: Broken) -> Iterator[Broken]:
    """For tests that restart slurmctld with something broken in it: the next one finds a sound one."""
    yield broken
    broken.mend()
    broken.restart()


def runs(cluster: Cluster, submit: Submitter, within: int = 40) -> int:
    job = submit(WAIT)
    cluster.wait_done(job, timeout=within)
    return job


def test_atlas_stage_missing(cluster: Cluster, submit: Submitter, broken: Broken) -> None:
    (broken.libexec / "atlas-stage").unlink()
    job = runs(cluster, submit)
    assert waited(cluster, job) < 10
    assert "atlas-stage" in logged(cluster) and "No such file" in logged(cluster)


def test_atlas_stage_crashing(cluster: Cluster, submit: Submitter, broken: Broken) -> None:
    broken.helper("kill -SEGV $$")
    runs(cluster, submit)
    broken.helper("exit 1")
    runs(cluster, submit)


def test_atlas_stage_hanging(cluster: Cluster, submit: Submitter, broken: Broken) -> None:
    # Shorter limits than the real ones (25, 12, 8 s), which would only make the test longer.
    stage = (broken.lua / "atlas_stage.lua").read_text()
    shorter = re.sub(r"local LIMITS = \{.*\}", "local LIMITS = { data_in = 2, pre_run = 2, teardown = 2 }", stage)
    assert shorter != stage
    (broken.lua / "atlas_stage.lua").write_text(shorter)
    broken.helper('trap "" TERM; echo hanging; while :; do sleep 1; done')
    job = runs(cluster, submit)
    assert record(cluster, job)["state"] == "ended"
    wait_for(lambda: not cluster.processes("atlas-stage"), 20, "no atlas-stage is left")


BREAK = {"syntax error": "this is not lua", "run-time error": "error('broken on purpose')", "missing": None}


def break_module(file: Path, how: str) -> None:
    if BREAK[how] is None:
        file.unlink()
    else:
        file.write_text(BREAK[how])


@pytest.mark.parametrize(("module", "how"), [("atlas_stage.lua", "syntax error"), ("atlas_stage.lua", "run-time error"),
                                             ("atlas_submit.lua", "syntax error"), ("atlas_submit.lua", "missing"),
                                             ("atlas_paths.lua", "run-time error")])
def test_slurmctld_starts_with_a_broken_module(cluster: Cluster, submit: Submitter, restarted: Broken, module: str, how: str) -> None:
    break_module(restarted.lua / module, how)
    restarted.restart()
    runs(cluster, submit)


@pytest.mark.parametrize("how", BREAK)
def test_a_module_breaks_while_jobs_are_staged(cluster: Cluster, submit: Submitter, broken: Broken, how: str) -> None:
    """Under a slurmctld that has its pools already; job_submit.lua keeps what it loaded, the hooks load anew each time."""
    waiting = submit(WAIT)
    break_module(broken.lua / "atlas_stage.lua", how)
    break_module(broken.lua / "atlas_paths.lua", how)
    cluster.wait_done(runs(cluster, submit))
    cluster.wait_done(waiting)


def test_burst_buffer_lua_is_broken(cluster: Cluster, submit: Submitter, restarted: Broken) -> None:
    restarted.script("burst_buffer.lua", "this is not lua, atlas_stage or no atlas_stage")
    job = runs(cluster, submit)
    assert record(cluster, job)["burst_buffer"] == ""
    restarted.restart()
    runs(cluster, submit)


def test_burst_buffer_lua_knows_nothing_of_atlas(cluster: Cluster, submit: Submitter, restarted: Broken) -> None:
    text = (ROOT / "etc" / "slurm" / "burst_buffer.lua").read_text()
    text = text[: text.index("local atlas_ok")].replace('"atlas"', '"other"')
    restarted.script("burst_buffer.lua", text)
    restarted.restart()
    job = runs(cluster, submit)
    assert record(cluster, job)["burst_buffer"] == ""


def test_a_sites_own_script_chains_atlas(cluster: Cluster, submit: Submitter, restarted: Broken) -> None:
    """The two documented lines at the end of a site's script: both act, each on its own jobs."""
    places = cluster.state / "site"
    places.mkdir(exist_ok=True)
    os.chmod(places, 0o777)
    names = ("job_process", "setup", "real_size", "paths", "pre_run", "post_run", "data_out", "job_teardown", "get_status")
    own = "".join(f"function slurm_bb_{name}(...) return slurm.SUCCESS end\n" for name in names) + f"""
function slurm_bb_data_in(job_id, script)
  io.open("{places}/" .. job_id, "w"):close()
  return slurm.SUCCESS
end
function slurm_bb_pools()
  return slurm.SUCCESS, '{{"pools":[{{"id":"scratch","quantity":100,"granularity":1}}]}}'
end
local atlas_ok, atlas = pcall(require, "atlas_stage")
if atlas_ok then atlas.install() end
"""
    restarted.script("burst_buffer.lua", own)
    restarted.restart()
    both = submit(NONE, script="#!/bin/sh\n#BB_LUA pool=scratch capacity=5\ntrue\n")
    theirs = submit(None, script="#!/bin/sh\n#BB_LUA pool=scratch capacity=5\ntrue\n")
    ours = submit(NONE)
    for job in (both, theirs, ours):
        cluster.wait_done(job)
    assert sorted(int(p.name) for p in places.iterdir()) == sorted((both, theirs))
    log = logged(cluster)
    assert f"data_in of job {both}: " in log and f"data_in of job {ours}: " in log
    assert f"data_in of job {theirs}: " not in log


def test_slurmctld_is_killed_after_staging(cluster: Cluster, submit: Submitter, broken: Broken) -> None:
    """Its job records are saved every few seconds, its staging records much later: what was staged is staged again."""
    broken.helper("")  # so that they wait for their begin times here, not for atlas-stage
    begin = int(time.time()) + 25
    before = time.time()
    jobs = [submit(WAIT) for _ in range(5)]
    probe = cluster._inside("build", cluster.settings.preset, "tests", "slurm-port-probe")
    for job in jobs:
        cluster.run(probe, "patch", str(job), f"begin={begin}", user="slurm").check()
    saved = cluster.state / "slurmctld" / "job_state"
    wait_for(lambda: saved.exists() and saved.stat().st_mtime > before + 2, 30, "slurmctld has saved its jobs")
    cluster.kill_daemon("slurmctld")
    broken.restart()
    for job in jobs:
        cluster.wait_done(job, timeout=100)


def test_nothing_is_left_behind(cluster: Cluster) -> None:
    wait_for(lambda: cluster.run("squeue", "-h").out.strip() == "", 30, "the queue is empty")
    wait_for(lambda: not cluster.processes("atlas-stage"), 20, "no atlas-stage is left")
    assert not any(Path("/tmp").glob("atlas-forged"))
