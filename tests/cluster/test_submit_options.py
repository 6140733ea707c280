"""The Atlas options of sbatch, srun and salloc: what they refuse, what they let through, what a job inherits."""

import os
import pwd
import re
from pathlib import Path

import pytest

from cluster import USERS, Cluster, Done, Settings

# A slow machine is not a silent origin: what the submit does then is tested in fault/view_hang_test.cc.
SETTINGS = Settings(nodes=2, slow_origin=False, atlas_extra='[submit]\nresolve_timeout = "20s"\n')
USER = USERS[0]
SHOW = 'echo "request=$SLURM_SPANK_ATLAS_REQ"'


@pytest.fixture(scope="module")
def speech(cluster: Cluster) -> Path:
    directory = cluster.origin / "speech"
    directory.mkdir()
    (directory / "a.wav").write_text("sound")
    return directory


def sbatch(cluster: Cluster, *options: str | Path, user: str = USER, cwd: str | Path = "/tmp",
           env: dict[str, str] | None = None, wrap: str = SHOW) -> Done:
    """`sbatch --wait` of a one-line job whose output comes back on stdout."""
    place = cluster.state / "jobs"
    place.mkdir(exist_ok=True)
    place.chmod(0o1777)
    return cluster.run("sbatch", "--wait", f"--output={place}/%j.out", *map(str, options), "--wrap", wrap, user=user,
                       cwd=cwd, env=env)


def job_of(done: Done) -> int:
    return int(re.search(r"Submitted batch job (\d+)", done.check().out).group(1))


def queue(cluster: Cluster) -> str:
    """Without the jobs that are over and about to leave it."""
    return cluster.run("squeue", "-h", "-t", "PENDING,CONFIGURING,RUNNING,SUSPENDED", "-o", "%i").check().out


def refused(cluster: Cluster, done: Done) -> str:
    assert done.code != 0
    assert "Submitted" not in done.out
    assert queue(cluster) == "", "nothing was submitted"
    return done.err


def request_of(cluster: Cluster, done: Done) -> str:
    lines = [line for line in cluster.job_output(job_of(done)).splitlines() if line.startswith("request=")]
    return lines[0].removeprefix("request=")


@pytest.mark.parametrize("command", ["sbatch", "srun", "salloc"])
def test_the_options_are_in_the_help(cluster: Cluster, command: str) -> None:
    text = cluster.run(command, "--help").out
    for option in ("--atlas-dataset=PATH|NAME[:rw]", "--atlas-cache=SIZE", "--atlas-warm", "--atlas-locality=SHARE[@TIME]",
                   "--atlas-on-change=refresh|keep|fail", "--atlas-io-limit=RATE[,OPS]"):
        assert option in text


@pytest.mark.parametrize("command", ["sbatch", "srun", "salloc"])
@pytest.mark.parametrize("option, message", [
    ("--atlas-cache=0", "0 leaves nothing to cache"),
    ("--atlas-cache=-1", "--atlas-cache: "),
    ("--atlas-cache=12Q", "--atlas-cache: "),
    ("--atlas-cache=", "--atlas-cache: "),
    ("--atlas-locality=1.5", "is not a share from 0 to 1"),
    ("--atlas-locality=0.9@x", "--atlas-locality: "),
    ("--atlas-on-change=maybe", "is none of 'refresh' (the default), 'keep' and 'fail'"),
    ("--atlas-warm=maybe", "neither 'wait' (the default) nor 'overlap'"),
    ("--atlas-dataset=", "--atlas-dataset: "),
    ("--atlas-dataset=data/speech", "relative paths are not accepted"),
    ("--atlas-dataset=./speech", "relative paths are not accepted"),
    ("--atlas-dataset=/etc", "is not below an origin; the origins are: "),
    ("--atlas-dataset=/nonexistent", "is not below an origin"),
])
def test_bad_values_are_refused_with_the_next_step(cluster: Cluster, command: str, option: str, message: str) -> None:
    rest = ["--wrap", "true"] if command == "sbatch" else ["true"]
    error = refused(cluster, cluster.run(command, option, *rest, user=USER, cwd="/tmp"))
    assert f"{command}: error: atlas: " in error
    assert message in error


def test_paths_are_checked_as_the_user(cluster: Cluster, speech: Path) -> None:
    assert "does not exist" in refused(cluster, sbatch(cluster, f"--atlas-dataset={speech}/missing"))
    assert "write the path without '..'" in refused(cluster, sbatch(cluster, f"--atlas-dataset={speech}/../speech"))
    closed = cluster.origin / "closed"
    (closed / "inner").mkdir(parents=True)
    closed.chmod(0o700)
    os.chown(closed, pwd.getpwnam(USERS[1]).pw_uid, -1)
    for path, words in ((closed, "may not read"), (closed / "inner", "a directory above it is closed")):
        error = refused(cluster, sbatch(cluster, f"--atlas-dataset={path}"))
        assert f"permission denied: user {USER}" in error and words in error
        assert request_of(cluster, sbatch(cluster, f"--atlas-dataset={path}", user=USERS[1])) == f"v1,d={path}"


def test_symlinks_travel_as_what_they_lead_to(cluster: Cluster, speech: Path) -> None:
    link = cluster.origin / "latest"
    link.symlink_to("speech")
    assert request_of(cluster, sbatch(cluster, f"--atlas-dataset={link}")) == f"v1,d={speech}"
    out = cluster.origin / "out"
    out.symlink_to("/etc")
    assert "leads to '/etc', which is not below an origin" in refused(cluster, sbatch(cluster, f"--atlas-dataset={out}"))


def test_a_job_with_an_unknown_dataset_runs_and_is_told(cluster: Cluster) -> None:
    done = sbatch(cluster, "--atlas-dataset=no-such-name", "--atlas-warm")
    output = cluster.job_output(job_of(done))
    assert re.search(r"^atlas: .*no-such-name", output, re.MULTILINE), output


def test_options_without_a_dataset_are_refused(cluster: Cluster) -> None:
    for command in ("sbatch", "srun", "salloc"):
        rest = ["--wrap", "true"] if command == "sbatch" else ["true"]
        error = refused(cluster, cluster.run(command, "--atlas-cache=2G", "--atlas-warm", *rest, user=USER, cwd="/tmp"))
        assert "name no dataset: add --atlas-dataset=PATH" in error


def test_root_is_refused_only_with_atlas_options(cluster: Cluster, speech: Path) -> None:
    error = refused(cluster, sbatch(cluster, f"--atlas-dataset={speech}", user="root"))
    assert "jobs of root cannot use Atlas" in error
    assert request_of(cluster, sbatch(cluster, user="root")) == ""


def test_a_request_over_8_kib_is_refused(cluster: Cluster) -> None:
    names = [f"--atlas-dataset=a-dataset-with-quite-a-long-name-{i}" for i in range(300)]
    assert "the limit is 8192" in refused(cluster, sbatch(cluster, *names))
    largest = [f"--atlas-dataset=a-dataset-with-quite-a-long-name-{i}" for i in range(200)]
    assert len(request_of(cluster, sbatch(cluster, *largest))) > 7000


def test_strange_paths_arrive_as_they_are(cluster: Cluster) -> None:
    names = ["a b", "new\nline", "per%cent", "quo'te\"s", "$(touch pwned)", "semi;colon", "bäh", "-w n002", "]]--",
             b"\xff\xfe".decode(errors="surrogateescape")]
    jobs = {}
    for name in names:
        directory = cluster.origin / name
        directory.mkdir()
        jobs[directory] = cluster.submit(SHOW, f"--atlas-dataset={directory}")
    for directory, job in jobs.items():
        cluster.wait_done(job)
        request = re.search(r"^request=([A-Za-z0-9._/,=@%-]+)$", cluster.job_output(job), re.MULTILINE).group(1)
        encoded = "".join(chr(b) if re.match(rb"[A-Za-z0-9._/-]", bytes([b])) else f"%{b:02X}"
                          for b in os.fsencode(directory))
        assert request == f"v1,d={encoded}"


def test_directives_add_datasets_and_the_command_line_wins(cluster: Cluster, speech: Path) -> None:
    (cluster.origin / "noise").mkdir()
    script = f"""#!/bin/bash
#SBATCH --atlas-dataset={speech}
#SBATCH --atlas-dataset={cluster.origin}/noise
#SBATCH --atlas-cache=1G
#SBATCH --atlas-warm
#SBATCH --atlas-locality=0.5
{SHOW}
"""
    job = cluster.submit(script, "--atlas-cache=2G", "--atlas-dataset=words")
    cluster.wait_done(job)
    request = [w for w in cluster.job_output(job).split() if w.startswith("request=")]
    assert request == [f"request=v1,w=wait,c=2147483648,l=0.5@0,d={speech},d={cluster.origin}/noise,d=words"]


def test_srun_and_salloc_carry_a_request_too_and_overlap_by_default(cluster: Cluster, speech: Path) -> None:
    done = cluster.run("srun", f"--atlas-dataset={speech}", "--atlas-warm", "sh", "-c", SHOW, user=USER, cwd="/tmp")
    assert f"request=v1,w=overlap,d={speech}\n" in done.check().out
    done = cluster.run("salloc", f"--atlas-dataset={speech}", "--atlas-warm=wait", "srun", "sh", "-c", SHOW, user=USER,
                       cwd="/tmp")
    assert f"request=v1,w=wait,d={speech}\n" in done.check().out


def test_a_step_keeps_its_jobs_request_and_options_of_its_own_change_nothing(cluster: Cluster, speech: Path) -> None:
    job = cluster.submit(f"srun sh -c '{SHOW}'; srun --atlas-dataset=words --atlas-warm sh -c '{SHOW}' 2>&1",
                         f"--atlas-dataset={speech}", "--atlas-warm")
    cluster.wait_done(job)
    output = cluster.job_output(job)
    assert output.count(f"request=v1,w=wait,d={speech}\n") == 2
    assert "belong to a whole job, not to a step" in output


@pytest.mark.parametrize("command", ["sbatch --wait -o /tmp/nested.out --wrap \"$show\" >/dev/null; cat /tmp/nested.out",
                                     "salloc -Q srun sh -c \"$show\""])
def test_a_job_submitted_by_a_job_starts_without_a_request(cluster: Cluster, speech: Path, command: str) -> None:
    cluster.sh("rm -f /tmp/nested.out")
    job = cluster.submit(f"{SHOW}; show='{SHOW.replace('request', 'nested')}; echo state=$ATLAS_CACHE_STATE'; {command}",
                         f"--atlas-dataset={speech}")
    cluster.wait_done(job)
    output = cluster.job_output(job)
    assert f"request=v1,d={speech}\n" in output
    assert "nested=\n" in output and "state=\n" in output


def test_forged_environments_lead_nowhere(cluster: Cluster, speech: Path) -> None:
    forged = {"SLURM_SPANK_ATLAS_REQ": f"v1,d={speech}", "SPANK_ATLAS_REQ": "v1,d=/etc", "ATLAS_CACHE_STATE": "x",
              "_SLURM_SPANK_OPTION_atlas_atlas_dataset": "/etc", "SLURM_SPANK__SLURM_SPANK_OPTION_atlas_atlas_cache": "0"}
    assert request_of(cluster, sbatch(cluster, env=forged)) == "", "cleared on the way"
    texts = (f"v1,d={speech}", "garbage", "v1,d=" + "x" * 9000, "$(touch /tmp/pwned)", "v1,d=%00")
    jobs = [cluster.submit(f"export SLURM_SPANK_ATLAS_REQ='{text}' SLURMD_NODENAME=../../x; srun echo step runs")
            for text in texts]
    for job in jobs:
        cluster.wait_done(job)
        assert cluster.job_output(job) == "step runs\n"
    assert not Path("/tmp/pwned").exists()


def test_a_missing_or_broken_configuration_hurts_only_those_who_use_atlas(cluster: Cluster, speech: Path) -> None:
    file = cluster.state / "etc/atlas.toml"
    good = file.read_text()
    try:
        file.write_text(good + "\n[agent]\nsoket = 1\n")
        error = refused(cluster, sbatch(cluster, f"--atlas-dataset={speech}"))
        assert "atlas.toml:" in error and "tell your administrator" in error
        assert request_of(cluster, sbatch(cluster)) == ""
        file.rename(file.with_suffix(".away"))
        assert "cannot read the configuration" in refused(cluster, sbatch(cluster, f"--atlas-dataset={speech}"))
        assert request_of(cluster, sbatch(cluster)) == ""
    finally:
        file.with_suffix(".away").unlink(missing_ok=True)
        file.write_text(good)


def test_without_atlas_options_a_job_sees_nothing_of_atlas(cluster: Cluster) -> None:
    done = sbatch(cluster, wrap="env")
    assert done.err == ""
    names = [line for line in cluster.job_output(job_of(done)).splitlines() if "SPANK" in line or "CACHE_STATE" in line]
    assert names == []


def test_a_working_directory_inside_the_data_is_warned_of(cluster: Cluster, speech: Path) -> None:
    done = sbatch(cluster, f"--atlas-dataset={speech}", cwd=speech)
    assert f"the working directory lies inside the dataset '{speech}'" in done.err
    job_of(done)


def test_a_name_that_does_not_exist_is_told_at_once_by_atlas_submit(cluster: Cluster) -> None:
    done = cluster.run("atlas-submit", "--dataset", "no-such-name", "--wrap", "true", user=USER, cwd="/tmp")
    assert "there is no dataset named 'no-such-name'" in refused(cluster, done)
