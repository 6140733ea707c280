"""The harness itself: plain Slurm works in it, and it leaves nothing behind, however it ends."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from cluster import GROUP, SUPPORT, USERS, Cluster, Settings, wait_for

SETTINGS = Settings(nodes=3)


def test_a_job_of_an_ordinary_user_runs_on_each_node(cluster: Cluster) -> None:
    jobs = {node: cluster.submit("hostname; id -un; id -Gn", "-w", node) for node in cluster.node_names}
    for node, job in jobs.items():
        fields = cluster.wait_done(job)
        assert fields["NodeList"] == node
        host, user, groups = cluster.job_output(job).splitlines()
        assert (host, user) == (node, USERS[0])
        assert GROUP in groups.split()


def test_srun_reaches_two_nodes_at_once(cluster: Cluster) -> None:
    done = cluster.run("srun", "-N2", "hostname", user=USERS[1], cwd="/tmp").check()
    assert sorted(done.out.split()) == cluster.node_names[:2]


def test_a_node_has_its_own_run_directory_and_address(cluster: Cluster) -> None:
    first, second = cluster.node_names[:2]
    cluster.sh("touch /run/atlas/mine", node=first).check()
    assert cluster.sh("test -e /run/atlas/mine", node=second).code != 0
    assert cluster.sh("ping -c1 -W2 " + second + " 2>/dev/null || getent hosts " + second, node=first).code == 0


def test_an_unprivileged_caller_cannot_act_as_another_user(cluster: Cluster) -> None:
    program = textwrap.dedent(f"""
        import sys; sys.path.insert(0, {str(cluster.state / 'lib')!r})
        import world_client
        for request in ({{"do": "run", "argv": ["id"], "env": {{}}, "cwd": "/", "user": "root"}},
                        {{"do": "start", "name": "x", "argv": ["id"], "env": {{}}, "log": "/dev/null"}},
                        {{"do": "stop"}}):
            try:
                print(world_client.ask({cluster._socket!r}, request))
            except world_client.WorldError as error:
                print(error)
        """)
    done = subprocess.run(["setpriv", "--reuid", USERS[0], "--regid", USERS[0], "--init-groups",
                           "/usr/bin/python3", "-c", program], capture_output=True, text=True, timeout=20)
    assert done.stdout.splitlines() == ["only root may ask for that"] * 3, done.stderr


def test_the_commands_of_cluster_env_run_as_their_caller_where_he_is(cluster: Cluster) -> None:
    place = cluster.state / "jobs"
    place.mkdir(exist_ok=True)
    done = subprocess.run(["setpriv", "--reuid", USERS[1], "--regid", USERS[1], "--init-groups",
                           cluster.state / "bin" / "srun", "sh", "-c", "id -un; pwd; cat; exit 3"],
                          input="through stdin\n", capture_output=True, text=True, timeout=60, cwd=place)
    assert done.stdout.splitlines() == [USERS[1], str(place), "through stdin"], done.stderr
    assert done.returncode == 3


def test_the_slow_origin_counts_what_a_job_reads(cluster: Cluster, origin: Path) -> None:
    (origin / "data").write_bytes(b"x" * 3_000_000)
    (origin / "other").write_bytes(b"y" * 1000)
    cluster.origin_ctl("reset")
    job = cluster.submit('cat "$ATLAS_ORIGIN/data" | wc -c; cat "$ATLAS_ORIGIN/other" | wc -c', user=USERS[0])
    cluster.wait_done(job)
    assert cluster.job_output(job).split() == ["3000000", "1000"]
    stats = cluster.origin_stats()
    assert stats["read_bytes"] == 3_001_000
    uid = str(int(cluster.run("id", "-u", USERS[0]).out))
    assert stats["by_uid"][uid]["read_bytes"] == 3_001_000
    assert stats["by_uid"][uid]["ops"]["open"] == 2


def test_the_slow_origin_delays_and_caps(cluster: Cluster, origin: Path) -> None:
    (origin / "big").write_bytes(b"z" * (4 << 20))
    cluster.origin_ctl("bandwidth", "8M")
    try:
        seconds = float(cluster.sh(f"TIMEFORMAT=%R; time cat {origin}/big >/dev/null").check().err)
        assert 0.4 < seconds < 5
    finally:
        cluster.origin_ctl("bandwidth", "unlimited")
    cluster.origin_ctl("latency", "100")
    try:
        seconds = float(cluster.sh(f"TIMEFORMAT=%R; time stat {origin}/big >/dev/null").check().err)
        assert seconds >= 0.1
    finally:
        cluster.origin_ctl("latency", "0")


def test_the_slow_origin_hangs_and_resumes(cluster: Cluster, origin: Path) -> None:
    (origin / "file").write_text("still here")
    cluster.origin_ctl("hang", "open")
    job = cluster.submit('cat "$ATLAS_ORIGIN/file"')
    wait_for(lambda: cluster.origin_stats()["hanging"] == 1, 20, "the job's open hangs")
    assert cluster.job_state(job) == "RUNNING"
    cluster.origin_ctl("resume")
    cluster.wait_done(job)
    assert cluster.job_output(job) == "still here"


def test_the_slow_origin_fails_on_command(cluster: Cluster, origin: Path) -> None:
    (origin / "bad").write_text("never read")
    (origin / "good").write_text("read")
    cluster.origin_ctl("fail", "ba*", "read")
    try:
        done = cluster.sh(f"cat {origin}/good; cat {origin}/bad")
        assert done.out == "read"
        assert "Input/output error" in done.err
    finally:
        cluster.origin_ctl("heal")
    assert cluster.sh(f"cat {origin}/bad").check().out == "never read"


def test_the_slow_origin_shows_the_tree_as_it_is(cluster: Cluster, origin: Path) -> None:
    tree = origin / "tree"
    tree.mkdir()
    (tree / "a").write_text("a")
    os.link(tree / "a", tree / "b")
    os.symlink("a", tree / "link")
    os.truncate(os.open(tree / "sparse", os.O_CREAT | os.O_WRONLY), 1 << 30)
    subprocess.run(["setfacl", "-m", f"u:{USERS[1]}:r", tree / "a"], check=True)
    os.setxattr(tree / "a", "user.k", b"v")
    (tree / "private").mkdir(mode=0o700)
    script = (f"cd {tree} && stat -c '%n %i %h %a %u:%g %s %b %Z' a b link sparse private && readlink link && "
              "getfacl -n a && getfattr -d a")
    outside = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout
    assert cluster.sh(script).check().out == outside
    assert "Permission denied" in cluster.sh(f"ls {tree}/private", user=USERS[0]).err


def test_root_squash_shows_root_what_others_may_see() -> None:
    with_squash = Cluster(Settings(nodes=1, origin_options=["--root-squash"], atlas=False)).up()
    try:
        secret = with_squash.origin / "secret"
        secret.write_text("not for root")
        os.chown(secret, int(with_squash.run("id", "-u", USERS[0]).out), -1)
        secret.chmod(0o400)
        assert "Permission denied" in with_squash.sh(f"cat {secret}").err
        assert with_squash.sh(f"cat {secret}", user=USERS[0]).out == "not for root"
    finally:
        with_squash.down()


def test_a_daemon_can_be_killed_and_started_again(cluster: Cluster) -> None:
    cluster.kill_daemon("slurmctld")
    assert not cluster.running("slurmctld")
    cluster.start("slurmctld")
    cluster.wait_nodes()
    cluster.wait_done(cluster.submit("true"))


def test_a_cluster_comes_up_where_the_control_files_of_fuse_are_mounted_already() -> None:
    """As systemd does at boot."""
    program = textwrap.dedent(f"""
        import sys; sys.path.insert(0, {str(SUPPORT)!r})
        from cluster import Cluster, Settings
        cluster = Cluster(Settings(nodes=1, atlas=False)).up()
        cluster.down()
        """)
    control = "/sys/fs/fuse/connections"
    script = f"mountpoint -q {control} || mount -t fusectl none {control}; exec /usr/bin/python3 -c \"$1\""
    subprocess.run(["unshare", "-m", "sh", "-ec", script, "sh", program], check=True, timeout=120)


# Arguments: a directory, "yes" if it is to be a mount point, the program. Makes it a copy of this machine's root, without
# what debootstrap leaves out, chroots.
CHROOT = """set -e
if [ "$2" = yes ]; then mount -t tmpfs tmpfs "$1"; fi
for path in /*; do
  if [ -L "$path" ]; then cp -P "$path" "$1"
  elif [ "$path" = /etc ]; then cp -a /etc "$1"; rm -f "$1/etc/hosts"
  elif [ -d "$path" ]; then mkdir "$1$path"; mount --rbind "$path" "$1$path"
  fi
done
touch "$1/in-the-chroot"
exec chroot "$1" /usr/bin/python3 -c "$3"
"""


@pytest.mark.parametrize("mount_point", ["no", "yes"], ids=["a directory", "a mount point"])
def test_a_cluster_comes_up_in_a_chroot_and_its_nodes_stay_there(mount_point: str, tmp_path: Path) -> None:
    program = textwrap.dedent(f"""
        import sys; sys.path.insert(0, {str(SUPPORT)!r})
        from cluster import *
        cluster = Cluster(Settings(nodes=1)).up()
        job = cluster.submit("ls -d /in-the-chroot /run/atlas-dev/dev")
        cluster.wait_done(job)
        print(cluster.job_output(job))
        cluster.down()
        """)
    root = tmp_path / "root"
    root.mkdir()
    # These tests may run in a chroot themselves.
    privately = textwrap.dedent(f"""
        import os, sys; sys.path.insert(0, {str(SUPPORT)!r})
        from world import own_root
        own_root()
        os.execvp("bash", sys.argv[1:])
        """)
    done = subprocess.run(["unshare", "--mount", "--propagation", "unchanged", "/usr/bin/python3", "-c", privately,
                           "bash", "-c", CHROOT, "bash", root, mount_point, program],
                          capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["/in-the-chroot", "/run/atlas-dev/dev"], done.stderr


def leftovers(state: str) -> list[str]:
    """Processes and mounts on this machine that mention a cluster's directory."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if state in (process / "cmdline").read_text() or state in (process / "environ").read_text():
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except (OSError, UnicodeDecodeError):
            continue
    return found + [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if state in line]


@pytest.mark.parametrize("hung", [False, True], ids=["idle", "with a hung origin and a running job"])
def test_nothing_is_left_after_the_harness_was_killed(hung: bool) -> None:
    program = textwrap.dedent(f"""
        import sys, time; sys.path.insert(0, {str(SUPPORT)!r})
        from cluster import *
        cluster = Cluster(Settings(nodes=2)).up()
        if {hung}:
            (cluster.origin / "f").write_text("x")
            cluster.origin_ctl("hang", "open", "getattr", "lookup")
            cluster.submit('cat "$ATLAS_ORIGIN/f"')
            wait_for(lambda: cluster.origin_stats()["hanging"] >= 1)
        print(cluster.state, cluster._root.pid, flush=True)
        signal.pause()
        """)
    harness = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    state, world = harness.stdout.readline().split()
    assert leftovers(state)
    namespaces = {os.readlink(f"/proc/{world}/ns/{kind}") for kind in ("mnt", "net", "uts")}
    namespaces -= {os.readlink(f"/proc/self/ns/{kind}") for kind in ("mnt", "net", "uts")}
    assert len(namespaces) == 3
    harness.send_signal(signal.SIGKILL)
    harness.wait()
    wait_for(lambda: leftovers(state) == [], 20, "no process or mount left")

    def held() -> list[str]:
        result = []
        for link in Path("/proc").glob("[0-9]*/ns/*"):
            try:
                if os.readlink(link) in namespaces:
                    result.append(str(link))
            except OSError:
                continue
        return result
    wait_for(lambda: held() == [], 20, "no namespace left")
    subprocess.run(["rm", "-rf", state], check=True)


def test_down_removes_everything_even_with_a_hung_origin() -> None:
    cluster = Cluster(Settings(nodes=1, atlas=False)).up()
    state = str(cluster.state)
    (cluster.origin / "f").write_text("x")
    cluster.origin_ctl("hang")
    cluster.submit('cat "$ATLAS_ORIGIN/f"')
    wait_for(lambda: cluster.origin_stats()["hanging"] >= 1, 20, "the job hangs")
    cluster.down()
    assert leftovers(state) == []
    assert not Path(state).exists()
