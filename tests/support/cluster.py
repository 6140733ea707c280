"""A real Slurm cluster with Atlas on this machine, inside namespaces of its own.

Cluster(...).up() starts a world (world.py): munged, the slow origin, slurmctld, a slurmd per node, atlas-controller and an
atlas-view-holder and atlas-cache-agent per node. Each node has its own host name, address, mounts and /run, as a real one. The tests and
`./dev cluster` both use this class. Several clusters may run at once.

What is not visible from outside the world: its mounts. The origin directory is the exception that tests rely on: outside,
`cluster.origin` is the plain directory; inside, the slow origin mirrors it at the same path.
"""

import contextlib
import ctypes
import grp
import json
import os
import pwd
import selectors
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import slurm_config
import world_client

ROOT = Path(__file__).resolve().parents[2]
SUPPORT = ROOT / "tests" / "support"
USERS = ("atlas1", "atlas2")
GROUP = "atlasg"  # a supplementary group of both users
CONTROLLER, ADDRESS = "atlasctl", "10.77.0.1"
CLIENT_TIMEOUT = 60  # seconds after which any command of a test is killed
PR_SET_PDEATHSIG = 1
SHIMS = ("sbatch", "srun", "salloc", "squeue", "sinfo", "scontrol", "scancel", "sstat", "sattach", "sdiag", "sprio",
         "atlas-submit", "atlasctl", "atlas-enter")


class ClusterError(world_client.WorldError):
    """What went wrong, where, and where to look."""


class Timeout(ClusterError):
    """A condition did not come true in time."""


@dataclass
class Settings:
    nodes: int = 4
    cpus: int = 4
    origin: str | None = None  # None: a directory of the cluster's own
    slow_origin: bool = True  # False: the origin is the plain directory
    second_origin: bool = False  # one more origin, "scratch": a plain directory
    origin_latency: float = 0  # ms per operation
    origin_bandwidth: str = "0"  # all together; 0 = no cap
    origin_cache: float = 0  # seconds the kernel trusts names and attributes; 0 shows changes from outside at once
    origin_options: list[str] = field(default_factory=list)
    default_scheduler: bool = False
    quota: str = "8G"
    atlas: bool = True  # False: plain Slurm
    preset: str = field(default_factory=lambda: os.environ.get("ATLAS_PRESET", "dev"))
    slurm_extra: str = ""  # more lines of slurm.conf
    atlas_extra: str = ""  # more lines of atlas.toml
    agent_extra: str = ""  # more lines of its [agent]
    controller_extra: str = ""  # more lines of its [controller]


@dataclass
class Done:
    """A finished command."""

    argv: list[str]
    code: int
    out: str
    err: str

    def check(self) -> "Done":
        if self.code != 0:
            raise ClusterError(f"{' '.join(self.argv)}: exit code {self.code}\n{self.out}{self.err}")
        return self


def wait_for(condition: Callable[[], Any], timeout: float = 30, what: str = "", interval: float = 0.05) -> Any:
    """Polls until `condition()` is true and returns its value; Timeout names `what` and the last value otherwise."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Timeout(f"not within {timeout:g} s: {what or getattr(condition, '__name__', 'condition')}; last value: {value!r}")
        time.sleep(interval)


def ensure_users() -> None:
    """Ordinary accounts for jobs, made once per machine."""
    def missing(lookup: Callable[[str], Any], name: str) -> bool:
        try:
            lookup(name)
            return False
        except KeyError:
            return True

    if missing(grp.getgrnam, GROUP):
        subprocess.run(["groupadd", GROUP], check=True)
    for user in USERS:
        if missing(pwd.getpwnam, user):
            subprocess.run(["useradd", "--no-create-home", "--shell", "/bin/bash", "--groups", GROUP, user], check=True)


def slurm_version() -> tuple[int, int]:
    """The release of this machine's Slurm, as (22, 5)."""
    words = subprocess.run(["slurmd", "-V"], capture_output=True, text=True, check=True).stdout.split()  # slurm-wlm 22.05.8
    major, minor = words[-1].split(".")[:2]
    return int(major), int(minor)


def process_start(pid: int) -> str | None:
    """When a process started, in clock ticks: with the pid, its identity. None if it does not run (any more)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


class Cluster:
    def __init__(self, settings: Settings | None = None, state: Path | None = None):
        self.settings = settings or Settings()
        self._state = state
        self._root: subprocess.Popen | None = None  # the `unshare` process, when this object started it

    # ---- places -----------------------------------------------------------------------------------------------------

    @property
    def state(self) -> Path:
        """The directory of everything this cluster writes."""
        if self._state is None:
            raise ClusterError("the cluster is not up")
        return self._state

    @property
    def origin(self) -> Path:
        return Path(self.settings.origin) if self.settings.origin else self.state / "origin"

    @property
    def second_origin(self) -> Path:
        """With Settings.second_origin."""
        return self.state / "scratch"

    @property
    def log_dir(self) -> Path:
        return self.state / "log"

    @property
    def binaries(self) -> Path:
        return ROOT / "build" / self.settings.preset / "bin"

    @property
    def node_names(self) -> list[str]:
        return list(self._nodes())

    def store(self, node: str) -> Path:
        return self.state / "nodes" / node / "store"

    def _nodes(self) -> dict[str, dict]:
        return {f"n{i:03d}": {"address": f"10.77.{1 + i // 250}.{1 + i % 250}", "cpus": self.settings.cpus}
                for i in range(1, self.settings.nodes + 1)}

    def _inside(self, *parts: str) -> str:
        """A path of this repository as seen inside: readable by all users wherever the checkout lies."""
        return "/".join(("/run/atlas-dev", *parts))

    @property
    def environment(self) -> dict[str, str]:
        """What every command inside gets."""
        binaries = self._inside("build", self.settings.preset, "bin")
        lua = self._inside("etc", "slurm", "lua")
        return {
            "PATH": f"{binaries}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "SLURM_CONF": f"{self.state}/etc/slurm.conf",
            "ATLAS_CONF": f"{self.state}/etc/atlas.toml",
            "ATLAS_ORIGIN": str(self.origin),
            "ATLAS_LIBEXEC": binaries,
            "LUA_PATH": f"{lua}/?.lua;{self._inside('etc', 'slurm')}/?.lua;;",
        }

    # ---- up and down ------------------------------------------------------------------------------------------------

    def up(self, *, detached: bool = False) -> "Cluster":
        """Starts everything and returns when all nodes are idle. `detached`: it outlives this process."""
        if os.geteuid() != 0:
            raise ClusterError("only root can start a cluster: it makes namespaces and mounts")
        ensure_users()
        if self._state is None:
            self._state = Path(tempfile.mkdtemp(prefix="atlas-cluster.", dir=os.environ.get("ATLAS_CLUSTER_TMP")))
        try:
            self._write_files()
            self._start_world(detached)
            self._start_daemons()
        except BaseException:
            self.kill()
            raise
        return self

    def _write_files(self) -> None:
        state, settings = self.state, self.settings
        os.chmod(state, 0o755)
        slurm = pwd.getpwnam("slurm")
        shared = ["origin", "jobs"] + (["scratch"] if settings.second_origin else [])
        for name in ("etc", "log", "munge", "lib", *shared):
            (state / name).mkdir(exist_ok=True)
        for name in ("slurmctld", "controller"):
            (state / name).mkdir(exist_ok=True)
            os.chown(state / name, slurm.pw_uid, slurm.pw_gid)
        os.chmod(state / "controller", 0o700)
        os.chown(state / "log", slurm.pw_uid, slurm.pw_gid)
        for name in shared:
            os.chmod(state / name, 0o777 | 0o1000)
        for name in self._nodes():
            for part in ("spool", "store"):
                (state / "nodes" / name / part).mkdir(parents=True, exist_ok=True)
            os.chmod(state / "nodes" / name / "store", 0o700)
        key = state / "munge" / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(1024))
        lua_submit, burst_buffer = self._write_lua()
        nodes = self._nodes()
        etc = state / "etc"
        etc.joinpath("hosts").write_text(slurm_config.hosts(CONTROLLER, ADDRESS, nodes))
        etc.joinpath("slurm.conf").write_text(slurm_config.slurm_conf(
            state=str(state), controller=CONTROLLER, address=ADDRESS, nodes=nodes,
            default_scheduler=settings.default_scheduler, lua_submit=lua_submit, burst_buffer=burst_buffer,
            extra=settings.slurm_extra))
        etc.joinpath("cgroup.conf").write_text(slurm_config.cgroup_conf(
            slurm_version(), used="cgroup" in settings.slurm_extra))
        etc.joinpath("atlas.toml").write_text(slurm_config.atlas_toml(
            state=str(state), address=ADDRESS, origin=str(self.origin), quota=settings.quota,
            extra=settings.atlas_extra, agent_extra=settings.agent_extra, controller_extra=settings.controller_extra,
            second_origin=str(self.second_origin) if settings.second_origin else ""))
        etc.joinpath("plugstack.conf").write_text(self._plugstack())
        self._write_shims()

    def _write_lua(self) -> tuple[bool, bool]:
        """Copies the scripts that Slurm looks for beside slurm.conf; says which of the two plugins can be used."""
        source = ROOT / "etc" / "slurm"
        found = []
        for name in ("job_submit.lua", "burst_buffer.lua", "burst_buffer.conf", "atlas_hooks.conf"):
            if self.settings.atlas and (source / name).exists():
                shutil.copy(source / name, self.state / "etc" / name)
                found.append(name)
        return "job_submit.lua" in found, "burst_buffer.lua" in found

    def _plugstack(self) -> str:
        plugin = next((ROOT / "build" / self.settings.preset).glob("**/spank_atlas.so"), None)
        if not self.settings.atlas or plugin is None:
            return ""
        inside = self._inside(*plugin.relative_to(ROOT).parts)
        binaries = self._inside("build", self.settings.preset, "bin")
        return f"optional {inside} config={self.state}/etc/atlas.toml libexec={binaries}\n"

    def _write_shims(self) -> None:
        """Commands that run inside the world, for `cluster env`."""
        (self.state / "bin").mkdir(exist_ok=True)
        shutil.copy(SUPPORT / "world_client.py", self.state / "lib")
        environment = self.state / "etc" / "environment.json"
        environment.write_text(json.dumps(self.environment))
        for name in SHIMS:
            shim = self.state / "bin" / name
            shim.write_text("#!/bin/sh\n"
                            f"exec /usr/bin/python3 -I -S -X utf8 '{self.state}/lib/world_client.py' '{self._socket}' "
                            f"'{environment}' {name} \"$@\"\n")
            shim.chmod(0o755)

    @property
    def _socket(self) -> str:
        return str(self.state / "world.sock")

    def _start_world(self, detached: bool) -> None:
        config = self.state / "etc" / "world.json"
        config.write_text(json.dumps({
            "socket": self._socket, "hostname": CONTROLLER, "address": ADDRESS, "hosts": f"{self.state}/etc/hosts",
            "nodes": self._nodes(), "run_binds": {"munge": f"{self.state}/munge", "atlas-dev": str(ROOT)},
        }))
        Path(self._socket).unlink(missing_ok=True)
        libc = ctypes.CDLL(None)
        log = open(self.log_dir / "world.log", "ab")
        self._root = subprocess.Popen(
            # In a chroot "/" may be no mount point, whose propagation unshare could not change: the world sees to that.
            ["unshare", "--pid", "--mount", "--propagation", "unchanged", "--net", "--uts", "--fork", "--kill-child",
             "/usr/bin/python3", "-X", "utf8", str(SUPPORT / "world.py"), str(config)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", start_new_session=True,
            # When the harness dies, even by SIGKILL, the kernel ends the world with it.
            preexec_fn=None if detached else lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
        log.close()
        (self.state / "world.pid").write_text(f"{self._root.pid} {process_start(self._root.pid)}\n")

        def answers() -> bool:
            if self._root is not None and self._root.poll() is not None:
                raise ClusterError(f"the world did not start:\n{(self.log_dir / 'world.log').read_text()}")
            return os.path.exists(self._socket)
        wait_for(answers, 20, "the world answers", 0.01)

    def alive(self) -> bool:
        if self._state is None or self._world_process() is None:
            return False
        try:
            world_client.ask(self._socket, {"do": "nodes"})
            return True
        except world_client.WorldError:
            return False  # killed a moment ago

    def _world_process(self) -> int | None:
        try:
            pid, started = (self.state / "world.pid").read_text().split()
        except (OSError, ValueError):
            return None
        return int(pid) if process_start(int(pid)) == started else None

    def down(self, *, keep: bool = False) -> None:
        """Ends daemons in order, cuts this world's FUSE connections, ends the world. `keep` leaves the directory."""
        if self._state is None:
            return
        if self._world_process() is not None:
            try:
                world_client.ask(self._socket, {"do": "stop", "patience": 5})
            except world_client.WorldError:
                pass  # then by force
        self.kill()
        if not keep:
            shutil.rmtree(self.state, ignore_errors=True)
            self._state = None

    def kill(self) -> None:
        """Ends the world at once, as a crash of the harness would; the directory stays."""
        pid = self._world_process()
        inside: list[int] = []
        if pid is not None:
            with contextlib.suppress(OSError):
                inside = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
            os.kill(pid, signal.SIGKILL)  # --kill-child: its child is the world's process 1
        if self._root is not None:
            self._root.wait(timeout=30)
            self._root = None
        elif pid is not None:
            wait_for(lambda: process_start(pid) is None, 30, "the world's end")
        # Process 1 ends last of all: the kernel has it wait for every other one in there.
        wait_for(lambda: all(process_start(child) is None for child in inside), 30, "the end of all in the world")

    # ---- commands ---------------------------------------------------------------------------------------------------

    def run(self, *argv: str | os.PathLike, user: str | None = None, node: str | None = None, cwd: str | Path = "/",
            env: dict[str, str] | None = None, timeout: float = CLIENT_TIMEOUT, stdin: bytes = b"") -> Done:
        """Runs a command inside as `user` (default root), on a node or beside slurmctld; killed after `timeout`."""
        command = [os.fspath(a) for a in argv]
        account = pwd.getpwnam(user or "root")
        environment = {"HOME": account.pw_dir, "USER": account.pw_name, "LOGNAME": account.pw_name,
                       "SHELL": "/bin/bash", "LANG": "C.UTF-8"} | self.environment | (env or {})
        request = {"do": "run", "argv": command, "env": environment, "cwd": str(cwd), "node": node, "user": user}
        with world_client.connect(self._socket) as connection, tempfile.TemporaryFile() as given:
            given.write(stdin)
            given.seek(0)
            out_read, out_write = os.pipe()
            err_read, err_write = os.pipe()
            try:
                world_client.send(connection, request, [given.fileno(), out_write, err_write])
            finally:
                os.close(out_write)
                os.close(err_write)
            out, err = self._collect(connection, {out_read: b"", err_read: b""}, command, timeout)
            answer = world_client.receive(connection)
        code = answer["exit"] if "exit" in answer else -answer["signal"]
        return Done(command, code, out.decode(errors="surrogateescape"), err.decode(errors="surrogateescape"))

    @staticmethod
    def _collect(connection: Any, pipes: dict[int, bytes], command: list[str], timeout: float) -> tuple[bytes, bytes]:
        """Reads both pipes until the command has ended; what it leaves running in the background is not waited for."""
        deadline = time.monotonic() + timeout
        with selectors.DefaultSelector() as selector:
            for fd in pipes:
                os.set_blocking(fd, False)
                selector.register(fd, selectors.EVENT_READ)
            selector.register(connection, selectors.EVENT_READ)
            ended = False
            while not ended:
                ready = selector.select(max(0.0, deadline - time.monotonic()))
                if not ready:
                    connection.close()  # hanging up kills it
                    raise Timeout(f"killed after {timeout:g} s: {' '.join(command)}\n{b''.join(pipes.values()).decode(errors='replace')}")
                for key, _ in ready:
                    if key.fileobj is connection:
                        ended = True
                    elif data := os.read(key.fd, 1 << 16):
                        pipes[key.fd] += data
                    else:
                        selector.unregister(key.fd)
        for fd in pipes:
            try:
                while data := os.read(fd, 1 << 16):
                    pipes[fd] += data
            except BlockingIOError:
                pass
            os.close(fd)
        out, err = pipes.values()
        return out, err

    def sh(self, script: str, **how: Any) -> Done:
        return self.run("bash", "-c", script, **how)

    # ---- Slurm ------------------------------------------------------------------------------------------------------

    def submit(self, script: str, *options: str, user: str = USERS[0], command: str = "sbatch", cwd: str | Path = "/tmp",
               env: dict[str, str] | None = None) -> int:
        """Submits a job script (its text) and returns the job's number. Output goes to job_output(number)."""
        if not script.startswith("#!"):
            script = "#!/bin/bash\n" + script
        directory = self.state / "jobs"
        file = Path(tempfile.mkstemp(dir=directory, suffix=".sh")[1])
        file.write_text(script)
        file.chmod(0o755)
        done = self.run(command, f"--output={directory}/%A_%a.out" if any(o.startswith("--array") for o in options)
                        else f"--output={directory}/%j.out", *options, str(file), user=user, cwd=cwd, env=env).check()
        words = [w for w in done.out.split() if w.isdigit()]
        if not words:
            raise ClusterError(f"{command} named no job: {done.out!r} {done.err!r}")
        return int(words[-1])

    def job_output(self, job: int | str) -> str:
        file = self.state / "jobs" / f"{job}.out"
        return file.read_text(errors="surrogateescape") if file.exists() else ""

    def job(self, job: int | str) -> dict[str, str]:
        """The fields of `scontrol show job`, empty if Slurm has forgotten it."""
        done = self.run("scontrol", "-o", "show", "job", str(job))
        fields = (word.partition("=") for word in done.out.split())
        return {key: value for key, sign, value in fields if sign}

    def job_state(self, job: int | str) -> str:
        return self.job(job).get("JobState", "")

    def wait_state(self, job: int | str, *states: str, timeout: float = 60) -> dict[str, str]:
        """Waits until the job is in one of `states` and returns its fields."""
        def there() -> dict[str, str] | None:
            fields = self.job(job)
            return fields if fields.get("JobState") in states else None
        try:
            return wait_for(there, timeout, f"job {job} in {' or '.join(states)}", 0.1)
        except Timeout as error:
            raise Timeout(f"{error}\n{self.job(job)}\n{self.job_output(job)}") from None

    def wait_done(self, job: int | str, timeout: float = 60, expect: str = "COMPLETED") -> dict[str, str]:
        """Waits for the job's end, which must be `expect`."""
        ends = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "DEADLINE", "BOOT_FAIL")
        fields = self.wait_state(job, *ends, timeout=timeout)
        if fields["JobState"] != expect:
            raise ClusterError(f"job {job} ended {fields['JobState']}, not {expect}\n{fields}\n{self.job_output(job)}")
        return fields

    def atlasctl(self, *words: str, user: str | None = None) -> Any:
        """What `atlasctl WORDS --json` answers, parsed."""
        return json.loads(self.run("atlasctl", *words, "--json", user=user).check().out)

    def receipt(self, job: int | str, timeout: float = 20) -> dict:
        """What the controller has on record about a job that has ended, its receipt included."""
        def there() -> dict | None:
            done = self.run("atlasctl", "job", "show", str(job), "--json")
            status = json.loads(done.out) if done.code == 0 else {}
            return status if status.get("receipt") else None
        return wait_for(there, timeout, f"the receipt of job {job}", 0.2)

    def sinfo_R(self) -> str:
        """`sinfo -R` without its header: empty unless a node is down, drained or failing."""
        return self.run("sinfo", "-h", "-R").check().out.strip()

    # ---- daemons ----------------------------------------------------------------------------------------------------
    # Names: munged, slow-origin, slurmctld, controller, "slurmd n001", "holder n001", "agent n001".

    def _start_daemons(self) -> None:
        settings = self.settings
        self.start("munged")
        if settings.slow_origin:
            self.start("slow-origin")
        wait_for((self.state / "munge" / "munge.socket.2").exists, 10, "munged listens", 0.01)
        self.start("slurmctld")
        if settings.atlas:
            for name in ["controller"] + [f"{kind} {node}" for kind in ("holder", "agent") for node in self._nodes()]:
                if self.has(name):
                    self.start(name)
        for node in self._nodes():
            self.start(f"slurmd {node}")
        self.wait_nodes()
        if settings.atlas and self.has("controller"):
            self.wait_agents()

    def wait_nodes(self, timeout: float = 60) -> None:
        """Until Slurm calls every node idle, mixed or allocated."""
        def ready() -> bool:
            self._report_dead()
            done = self.run("sinfo", "-h", "-N", "-t", "idle,mixed,alloc", "-o", "%N", timeout=timeout)
            return len(set(done.out.split())) == self.settings.nodes
        wait_for(ready, timeout, "all nodes idle; see " + str(self.log_dir), 0.05)

    def wait_agents(self, timeout: float = 30) -> None:
        """Until the controller answers and hears from every node's agent."""
        def ready() -> bool:
            self._report_dead()
            done = self.run("atlasctl", "node", "list", "--json")
            return done.code == 0 and [n["state"] for n in json.loads(done.out)].count("up") == self.settings.nodes
        wait_for(ready, timeout, "the controller hears from all agents; see " + str(self.log_dir), 0.1)

    def _report_dead(self) -> None:
        for name, daemon in self.daemons().items():
            if "exit" in daemon:
                raise ClusterError(f"{name} ended with {daemon['exit']}:\n{self.log_tail(name)}")

    def has(self, name: str) -> bool:
        """Whether the program of a daemon has been built."""
        programs = [word for word in self._daemon(name)["argv"] if word.startswith(self._inside())]
        return all((ROOT / program.removeprefix(self._inside() + "/")).exists() for program in programs)

    def _daemon(self, name: str) -> dict:
        kind, _, node = name.partition(" ")
        state, binaries = self.state, self._inside("build", self.settings.preset, "bin")
        config = f"{state}/etc/atlas.toml"
        argv = {
            "munged": ["munged", "--foreground", "--force", "--num-threads=4", f"--key-file={state}/munge/munge.key",
                       f"--pid-file={state}/munge/munged.pid", f"--log-file={state}/log/munged.log",
                       f"--seed-file={state}/munge/munged.seed"],
            "slow-origin": [f"{binaries}/atlas-slow-origin", "serve", str(self.origin), str(self.origin),
                            "--socket", f"{state}/origin.sock", "--latency", str(self.settings.origin_latency),
                            "--bandwidth", self.settings.origin_bandwidth, "--cache", str(self.settings.origin_cache),
                            *self.settings.origin_options],
            "slurmctld": ["slurmctld", "-D"],
            "slurmd": ["slurmd", "-D", "-N", node],
            # As its unit does it: SlurmUser, with the one capability that its port below 1024 needs.
            "controller": ["setpriv", "--reuid=slurm", "--regid=slurm", "--init-groups", "--inh-caps=+net_bind_service",
                           "--ambient-caps=+net_bind_service", f"{binaries}/atlas-controller", "--config", config],
            "holder": [f"{binaries}/atlas-view-holder", "--config", config, "--node", node],
            "agent": [f"{binaries}/atlas-cache-agent", "--config", config, "--node", node],
        }.get(kind)
        if argv is None:
            raise ClusterError(f"no daemon '{name}'")
        return {"argv": argv, "node": node or None}

    def start(self, name: str, extra: list[str] | None = None, env: dict[str, str] | None = None) -> int:
        """Starts a daemon and returns its pid inside; for the slow origin, once it serves."""
        daemon = self._daemon(name)
        request = {"do": "start", "name": name, **daemon, "argv": daemon["argv"] + (extra or []), "cwd": "/",
                   "env": {"LANG": "C.UTF-8"} | self.environment | (env or {}),
                   "log": f"{self.log_dir}/{name.replace(' ', '-')}.stderr"}
        pid = world_client.ask(self._socket, request)["pid"]
        if name == "slow-origin":
            wait_for(lambda: self._report_dead() or os.path.exists(self.state / "origin.sock"), 10, "slow origin listens", 0.01)
            wait_for(lambda: self._report_dead() or self.sh(f"mountpoint -q '{self.origin}'").code == 0, 10, "slow origin mounted", 0.01)
        return pid

    def start_agent(self, node: str) -> None:
        """Starts a node's agent, and waits until it serves: a job that starts earlier reads the origin."""
        log = self.log_dir / f"agent-{node}.stderr"
        before = log.read_text().count(" serves on ")
        self.start(f"agent {node}")
        wait_for(lambda: log.read_text().count(" serves on ") > before, 30, f"the agent of {node} serves")

    def signal(self, name: str, number: int) -> None:
        world_client.ask(self._socket, {"do": "signal", "name": name, "signal": int(number)})

    def stop(self, name: str, timeout: float = 20) -> int:
        """SIGTERM, then waits for the end; returns the exit code (negative: a signal)."""
        return self._end(name, signal.SIGTERM, timeout)

    def kill_daemon(self, name: str, timeout: float = 20) -> None:
        """SIGKILL, then waits for the end."""
        self._end(name, signal.SIGKILL, timeout)

    def _end(self, name: str, number: int, timeout: float) -> int:
        self.signal(name, number)
        wait_for(lambda: "exit" in self.daemons()[name], timeout, f"{name} ends", 0.02)
        return self.daemons()[name]["exit"]

    def restart(self, name: str) -> int:
        if self.running(name):
            self.stop(name)
        return self.start(name)

    def daemons(self) -> dict[str, dict]:
        return world_client.ask(self._socket, {"do": "daemons"})["daemons"]

    def running(self, name: str) -> bool:
        daemon = self.daemons().get(name)
        return daemon is not None and "exit" not in daemon

    def log_tail(self, name: str, lines: int = 30) -> str:
        texts = []
        for file in sorted(self.log_dir.glob(f"{name.replace(' ', '-')}.*")):
            tail = file.read_text(errors="replace").splitlines()[-lines:]
            if tail:
                texts.append(f"--- {file}\n" + "\n".join(tail))
        return "\n".join(texts)

    def kept_views(self, node: str) -> list[str]:
        """FUSE connections of jobs that the holder of a node keeps: "ID WAITING job N, ORIGIN:PATH"."""
        done = self.run("atlas-view-holder", "--config", f"{self.state}/etc/atlas.toml", "--node", node, "--list", node=node)
        return done.check().out.splitlines()

    def node_pids(self) -> list[int]:
        """The processes that hold the nodes' namespaces, as numbered inside."""
        return list(world_client.ask(self._socket, {"do": "nodes"})["nodes"].values())

    # ---- the slow origin --------------------------------------------------------------------------------------------

    def origin_ctl(self, *words: str) -> str:
        """stats | reset | hang [--path P] [OP...] | resume | fail PATTERN [--errno E] [OP...] | heal | latency | bandwidth"""
        done = subprocess.run([self.binaries / "atlas-slow-origin", "ctl", self.state / "origin.sock", *words],
                              capture_output=True, text=True, timeout=20)
        if done.returncode != 0:
            raise ClusterError(f"slow origin: {done.stderr.strip()}")
        return done.stdout.strip()

    def origin_stats(self) -> dict:
        return json.loads(self.origin_ctl("stats"))

    # ---- what is left -----------------------------------------------------------------------------------------------

    def mounts(self, node: str | None = None) -> list[str]:
        """Mount points seen beside slurmctld or on a node."""
        done = self.run("cut", "-d ", "-f5", "/proc/self/mountinfo", node=node).check()
        return done.out.splitlines()

    def processes(self, name: str | None = None) -> list[str]:
        """Command lines of the world's processes, those of `name` if given."""
        done = self.run("ps", "-eo", "comm=,args=")
        lines = [line.split(None, 1) for line in done.out.splitlines()]
        return [line[-1] for line in lines if name is None or line[0] == name[:15]]
