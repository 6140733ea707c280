"""atlas-submit on a real cluster: what reaches sbatch, what comes back, what the job carries."""

import json
import os
from pathlib import Path

import pytest

from cluster import USERS, Cluster, Done, Settings

SETTINGS = Settings(nodes=2, slow_origin=False, atlas_extra='[warm]\ncontroller_grace = "2s"\n')
USER = USERS[0]
SHOW = 'echo "request=$SLURM_SPANK_ATLAS_REQ"; printf "<%s>" "$@"'


@pytest.fixture(scope="module")
def speech(cluster: Cluster) -> Path:
    directory = cluster.origin / "speech"
    directory.mkdir()
    (directory / "a.wav").write_text("sound")
    return directory


@pytest.fixture
def work(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of the user's, seen inside the cluster too."""
    directory = cluster.state / "jobs" / tmp_path_factory.mktemp("w").name
    directory.mkdir(parents=True)
    directory.chmod(0o777)
    return directory


def script(work: Path, *directives: str, body: str = SHOW, name: str = "job.sh") -> str:
    lines = ["#!/bin/bash", *(f"#SBATCH {d}" for d in directives), body]
    (work / name).write_text("\n".join(lines) + "\n")
    return name


def submit(cluster: Cluster, work: Path, *words: str, **how: object) -> Done:
    return cluster.run("atlas-submit", *words, user=USER, cwd=work, **how)


def output(cluster: Cluster, work: Path, done: Done) -> str:
    """The job's output, once it has ended."""
    line = done.check().out
    assert line.startswith("Submitted batch job ") and line.count("\n") == 1, "sbatch's line, unchanged"
    job = line.split()[-1]
    cluster.wait_done(job)
    return (work / f"slurm-{job}.out").read_text()


def refused(cluster: Cluster, done: Done) -> str:
    assert done.code == 2, done
    assert done.out == ""
    assert cluster.run("squeue", "-h").check().out == "", "nothing was submitted"
    return done.err


def test_options_script_and_arguments_find_their_way(cluster: Cluster, speech: Path, work: Path) -> None:
    text = output(cluster, work, submit(cluster, work, "--dataset", str(speech), "-N", "1", "--cache", "1G", "--job-name", "n",
                                        "--locality=0.5@0:10", script(work), "--epochs", "10", "--warm", "", "a b"))
    assert f"request=v1,c=1073741824,l=0.5@10,d={speech}\n" in text
    assert text.endswith("<--epochs><10><--warm><><a b>")


def test_bare_warm_does_not_swallow_the_script(cluster: Cluster, speech: Path, work: Path) -> None:
    text = output(cluster, work, submit(cluster, work, "--dataset", str(speech), "--warm", script(work, name="wait")))
    assert f"request=v1,w=wait,d={speech}\n" in text


def test_directives_alone_are_enough_and_the_command_line_wins(cluster: Cluster, speech: Path, work: Path) -> None:
    name = script(work, f"--atlas-dataset={speech}", "--atlas-cache=1G", "--atlas-warm=overlap", "--comment='a b' # c")
    assert f"request=v1,w=overlap,c=1073741824,d={speech}\n" in output(cluster, work, submit(cluster, work, name))
    assert f"request=v1,w=overlap,c=2147483648,d={speech}\n" in output(cluster, work, submit(cluster, work, "--cache=2G", name))


def test_a_project_file_serves_where_no_dataset_is_named(cluster: Cluster, speech: Path, work: Path) -> None:
    (work / ".atlas.toml").write_text(f'datasets = ["{speech}"]\ncache = "1G"\nwarm = "overlap"\n')
    assert f"request=v1,w=overlap,c=1073741824,d={speech}\n" in output(cluster, work, submit(cluster, work, script(work)))
    name = script(work, "--atlas-cache=3G")
    assert f"request=v1,w=overlap,c=3221225472,d={speech}\n" in output(cluster, work, submit(cluster, work, name)), \
        "the script's own line wins over the project's"
    (work / ".atlas.toml").write_text('datasets = ["x"]\nwarmth = 1\n')
    assert ".atlas.toml:2:10: warmth: unknown key" in refused(cluster, submit(cluster, work, script(work)))


def test_a_script_on_standard_input_and_wrap(cluster: Cluster, speech: Path, work: Path) -> None:
    text = f"#!/bin/bash\n#SBATCH --atlas-dataset={speech}\n{SHOW}\n"
    assert f"request=v1,d={speech}\n" in output(cluster, work, submit(cluster, work, stdin=text.encode()))
    done = submit(cluster, work, "--dataset", str(speech), "--wrap", 'echo "request=$SLURM_SPANK_ATLAS_REQ"')
    assert f"request=v1,d={speech}\n" in output(cluster, work, done)


def test_without_a_dataset_the_command_to_type_is_printed_and_works(cluster: Cluster, speech: Path, work: Path) -> None:
    name = script(work, body=f"ls {speech} >/dev/null\n{SHOW}", name="my job.sh")
    error = refused(cluster, submit(cluster, work, "--cache", "1G", name, "a b"))
    assert f"line 2: {speech}\n" in error
    typed = error.strip().splitlines()[-1].strip()
    assert typed.startswith("atlas-submit ")
    text = output(cluster, work, cluster.sh(typed, user=USER, cwd=work))
    assert f"request=v1,c=1073741824,d={speech}\n" in text and text.endswith("<a b>")


@pytest.mark.parametrize("words, message", [
    (["--cache", "0"], "--cache: 0 leaves nothing to cache"),
    (["--cache=-1"], "--cache"),
    (["--cache=12Q"], "--cache"),
    (["--cache="], "--cache"),
    (["--locality=1.5"], "--locality"),
    (["--locality=0.9@x"], "--locality"),
    (["--warm=now"], "--warm"),
    (["--dataset", "data/x"], "--dataset"),
])
def test_bad_values_are_refused(cluster: Cluster, speech: Path, work: Path, words: list[str], message: str) -> None:
    assert message in refused(cluster, submit(cluster, work, "--dataset", str(speech), *words, script(work)))


def test_output_inside_a_dataset_is_refused(cluster: Cluster, speech: Path, work: Path) -> None:
    for words in (["-o", f"{speech}/%j.out"], [f"--error={speech}/e"], ["--output=log", f"--chdir={speech}"]):
        assert "lies inside the dataset" in refused(cluster, submit(cluster, work, "--dataset", str(speech), *words, script(work)))
    name = script(work, f"--atlas-dataset={speech}", f"--output={speech}/x")
    assert "lies inside the dataset" in refused(cluster, submit(cluster, work, name))


def test_what_sbatch_and_the_plugin_refuse_comes_back_as_it_is(cluster: Cluster, speech: Path, work: Path) -> None:
    for words in (["--dataset", "/etc", script(work)], ["--dataset", str(speech), "--no-such-option", script(work)],
                  ["--dataset", str(speech), "missing.sh"], ["--dataset", str(speech), "-p", "nowhere", script(work)]):
        ours = submit(cluster, work, *words)
        theirs = cluster.run("sbatch", *[w.replace("--dataset", "--atlas-dataset") for w in words], user=USER, cwd=work)
        assert ours.code == theirs.code != 0
        assert ours.err == theirs.err
        assert ours.out == theirs.out == ""


def test_json_names_the_job(cluster: Cluster, speech: Path, work: Path) -> None:
    done = submit(cluster, work, "--json", "--dataset", str(speech), "--warm=overlap", script(work)).check()
    answer = json.loads(done.out)
    assert answer["request"]["warm"] == "overlap" and answer["request"]["datasets"] == [{"dataset": str(speech)}]
    cluster.wait_done(answer["job_id"])


def test_strange_names_arrive_as_they_are(cluster: Cluster, work: Path) -> None:
    for name in ("a b", "new\nline", "per%cent", "quo'te\"s", "$(touch pwned)", "semi;colon", os.fsdecode(b"\xff\xfe")):
        directory = cluster.origin / name
        directory.mkdir()
        text = output(cluster, work, submit(cluster, work, "--dataset", str(directory), script(work)))
        encoded = "".join(chr(b) if chr(b).isalnum() and b < 128 or chr(b) in "._/-" else f"%{b:02X}"
                          for b in os.fsencode(directory))
        assert f"request=v1,d={encoded}\n" in text
    assert not (work / "pwned").exists()
