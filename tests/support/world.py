"""Process 1 of a cluster's world: builds its namespaces, runs commands in them, reaps, and takes all with it when it ends.

Started by cluster.py as `unshare --pid --mount --propagation unchanged --net --uts --fork --kill-child python3 world.py
CONFIG.json`, also in a chroot. When this process dies, for whatever reason, the kernel kills every process of the world and drops its mounts and networks.

It listens on a Unix socket. A request is one JSON object (with the caller's stdin, stdout and stderr as descriptors for
`run`); the kernel tells who asks, so an ordinary user runs commands as himself, and root as whom he names:
  {"do": "run", "argv", "env", "cwd", "node"?, "user"?}    answers {"exit": CODE} or {"signal": NUMBER} when it ended;
                                                          bytes sent meanwhile are signals; hanging up kills it
  {"do": "start", "name", "argv", "env", "log", "node"?, "user"?}     a daemon; answers {"pid"}                (root only)
  {"do": "signal", "name", "signal"} | {"do": "daemons"} | {"do": "nodes"} | {"do": "stop", "patience"}        (root only)
"""

import ctypes
import json
import os
import pwd
import selectors
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWNET = 0x00020000, 0x04000000, 0x40000000
MS_BIND, MS_REC, MS_PRIVATE, MNT_DETACH = 0x1000, 0x4000, 0x40000, 2
libc = ctypes.CDLL(None, use_errno=True)


def syscall(result: int, what: str) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def sh(*argv: object) -> None:
    done = subprocess.run([str(a) for a in argv], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, argv))}: {done.stderr.strip()}")


def own_root() -> None:
    """Leaves the mounts outside alone, and makes this process's root the root of its mount namespace.

    In a chroot it is neither: "/" may be no mount point, so that its propagation cannot be changed, and whoever enters the
    namespace (setns) would find himself in the machine's root, outside the chroot.
    """
    root = os.open("/", os.O_PATH | os.O_DIRECTORY)
    namespace = os.open("/proc/self/ns/mnt", os.O_RDONLY)
    syscall(libc.setns(namespace, CLONE_NEWNS), "setns")  # now "/" is the namespace's own root, as for all who enter
    os.close(namespace)
    syscall(libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None), "make all mounts private")
    os.fchdir(root)
    os.close(root)
    path = os.getcwdb()
    if path == b"/":
        return
    syscall(libc.mount(path, path, None, MS_BIND | MS_REC, None), "bind the chroot onto itself")
    os.chdir(path)  # the new mount, which has just covered the directory
    syscall(libc.pivot_root(b".", b"."), "pivot_root")
    syscall(libc.umount2(b".", MNT_DETACH), "detach the machine's root")
    os.chdir("/")


def private_run(config: dict) -> None:
    """A /run of its own, so that every daemon finds its sockets where a real node has them."""
    sh("mount", "-t", "tmpfs", "-o", "mode=755", "world-run", "/run")
    for name, source in config["run_binds"].items():
        Path("/run", name).mkdir()
        sh("mount", "--rbind", source, f"/run/{name}")
    for name in ("lock", "atlas"):
        Path("/run", name).mkdir()


def fuse_minors() -> set[str]:
    """Minor device numbers of all FUSE mounts that processes of this world see."""
    minors = set()
    for path in Path("/proc").glob("[0-9]*/mountinfo"):
        try:
            for line in path.read_text().splitlines():
                fields = line.split()
                if fields[fields.index("-") + 1].startswith("fuse") and "fusectl" not in line:
                    minors.add(fields[2].split(":")[1])
        except (OSError, ValueError):
            continue  # the process has just ended
    return minors


class World:
    def __init__(self, config: dict):
        self.config = config
        self.nodes: dict[str, int] = {}  # name -> pid of the process that holds its namespaces
        self.daemons: dict[str, dict] = {}  # name -> {"pid", "exit"?}
        self.runs: dict[int, socket.socket] = {}  # pid -> connection that waits for it
        self.stopping = False
        self.selector = selectors.DefaultSelector()

    # ---- namespaces -------------------------------------------------------------------------------------------------

    def build(self) -> None:
        own_root()
        sh("mount", "-t", "proc", "proc", "/proc")
        self.foreign_fuse = fuse_minors()  # mounted before us: not ours to abort
        sh("mount", "--make-rshared", "/")  # what is mounted in the world appears on its nodes
        if not Path("/sys/fs/fuse/connections").is_mount():  # systemd does it at boot
            sh("mount", "-t", "fusectl", "none", "/sys/fs/fuse/connections")
        socket.sethostname(self.config["hostname"])
        Path("/etc/hosts").touch()  # a system fresh from debootstrap has none to mount onto
        sh("mount", "--bind", self.config["hosts"], "/etc/hosts")
        private_run(self.config)
        sh("ip", "link", "set", "lo", "up")
        sh("ip", "link", "add", "br0", "type", "bridge")
        sh("ip", "addr", "add", f"{self.config['address']}/16", "dev", "br0")
        sh("ip", "link", "set", "br0", "up")
        for name, node in self.config["nodes"].items():
            self.nodes[name] = self.make_node(name)
            self.connect_node(name, node["address"])

    def make_node(self, name: str) -> int:
        ready, done = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.close(ready)
                syscall(libc.unshare(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWNET), "unshare")
                sh("mount", "--make-rslave", "/")
                private_run(self.config)
                socket.sethostname(name)
                os.write(done, b"ok")
                os.close(done)
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                while True:
                    signal.pause()
            except BaseException as error:  # noqa: BLE001: the parent must hear of it, whatever it is
                os.write(done, str(error).encode())
            os._exit(1)
        os.close(done)
        answer = os.read(ready, 4096).decode()
        os.close(ready)
        if answer != "ok":
            raise RuntimeError(f"node {name}: {answer}")
        return pid

    def connect_node(self, name: str, address: str) -> None:
        pid = self.nodes[name]
        sh("ip", "link", "add", f"v-{name}", "type", "veth", "peer", "name", "eth0", "netns", pid)
        sh("ip", "link", "set", f"v-{name}", "master", "br0", "up")
        sh("nsenter", f"--net=/proc/{pid}/ns/net", "sh", "-c",
           f"ip link set lo up; ip addr add {address}/16 dev eth0; ip link set eth0 up")

    # ---- processes --------------------------------------------------------------------------------------------------

    def launch(self, request: dict, uid: int, fds: list[int]) -> int:
        """Forks a process for `request` as `uid` with `fds` as its stdin, stdout, stderr; in its own session."""
        pid = os.fork()
        if pid != 0:
            return pid
        try:
            os.setsid()
            for target, fd in enumerate(fds):
                os.dup2(fd, target)
            os.closerange(3, 4096)
            if node := request.get("node"):
                holder = self.nodes.get(node)
                if holder is None:
                    raise RuntimeError(f"no node '{node}' in this cluster")
                namespaces = [os.open(f"/proc/{holder}/ns/{kind}", os.O_RDONLY) for kind in ("net", "uts", "mnt")]
                for fd in namespaces:
                    syscall(libc.setns(fd, 0), "setns")
                    os.close(fd)
            self.become(request.get("user"), uid)
            os.chdir(request.get("cwd") or "/")
            for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGPIPE):
                signal.signal(number, signal.SIG_DFL)
            os.umask(0o022)
            os.execvpe(request["argv"][0], request["argv"], request["env"])
        except BaseException as error:  # noqa: BLE001
            os.write(2, f"world: {request['argv'][0]}: {error}\n".encode())
        os._exit(127)

    @staticmethod
    def become(user: str | None, uid: int) -> None:
        if user is not None:
            uid = pwd.getpwnam(user).pw_uid
        if uid == 0:
            os.setgroups([0])
            return
        entry = pwd.getpwuid(uid)
        os.setgroups(os.getgrouplist(entry.pw_name, entry.pw_gid))
        os.setgid(entry.pw_gid)
        os.setuid(uid)

    def start_daemon(self, request: dict) -> dict:
        name = request["name"]
        if "pid" in self.daemons.get(name, {}) and "exit" not in self.daemons[name]:
            return {"error": f"{name} is running already, pid {self.daemons[name]['pid']}"}
        null = os.open("/dev/null", os.O_RDONLY)
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        pid = self.launch(request, 0, [null, log, log])
        os.close(null)
        os.close(log)
        self.daemons[name] = {"pid": pid}
        return {"pid": pid}

    def reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            ended = {"signal": os.WTERMSIG(status)} if os.WIFSIGNALED(status) else {"exit": os.WEXITSTATUS(status)}
            for daemon in self.daemons.values():
                if daemon["pid"] == pid and "exit" not in daemon:
                    daemon["exit"] = ended.get("exit", -ended.get("signal", 0))
            if connection := self.runs.pop(pid, None):
                self.answer(connection, ended)

    # ---- requests ---------------------------------------------------------------------------------------------------

    def answer(self, connection: socket.socket, message: dict) -> None:
        try:
            connection.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            pass  # the caller has gone
        self.forget(connection)

    def forget(self, connection: socket.socket) -> None:
        try:
            self.selector.unregister(connection)
        except KeyError:
            pass
        connection.close()

    def accept(self, listener: socket.socket) -> None:
        connection, _ = listener.accept()
        connection.settimeout(10)
        try:
            header, fds, _, _ = socket.recv_fds(connection, 8, 3)
            (length,) = struct.unpack("!Q", header)
            body = b""
            while len(body) < length and (piece := connection.recv(length - len(body))):
                body += piece
            request = json.loads(body)
        except (OSError, ValueError, struct.error):
            connection.close()
            return
        _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        try:
            self.handle(connection, request, uid, fds)
        except Exception as error:  # noqa: BLE001: a bad request must not end the world
            self.answer(connection, {"error": f"{type(error).__name__}: {error}"})
        finally:
            for fd in fds:
                os.close(fd)

    def handle(self, connection: socket.socket, request: dict, uid: int, fds: list[int]) -> None:
        what = request["do"]
        if uid != 0 and (what != "run" or request.get("user") or request.get("node")):
            self.answer(connection, {"error": "only root may ask for that"})
        elif what == "run":
            pid = self.launch(request, uid, fds)
            self.runs[pid] = connection
            connection.setblocking(False)
            self.selector.register(connection, selectors.EVENT_READ, lambda c=connection, p=pid: self.from_runner(c, p))
        elif what == "start":
            self.answer(connection, self.start_daemon(request))
        elif what == "signal":
            self.answer(connection, self.signal_daemon(request["name"], request["signal"]))
        elif what == "daemons":
            self.answer(connection, {"daemons": self.daemons})
        elif what == "nodes":
            self.answer(connection, {"nodes": self.nodes})
        elif what == "stop":
            self.stop(request.get("patience", 5.0))
            self.answer(connection, {"stopped": True})
            self.stopping = True
        else:
            self.answer(connection, {"error": f"unknown request '{what}'"})

    def from_runner(self, connection: socket.socket, pid: int) -> None:
        """Signals for a running command, or its caller's end."""
        try:
            data = connection.recv(64)
        except OSError:
            data = b""
        for number in data or bytes([signal.SIGKILL]):
            try:
                os.killpg(pid, number)
            except ProcessLookupError:
                pass
        if not data:
            self.runs.pop(pid, None)
            self.forget(connection)

    def signal_daemon(self, name: str, number: int) -> dict:
        daemon = self.daemons.get(name)
        if daemon is None or "exit" in daemon:
            return {"error": f"{name} is not running"}
        os.kill(daemon["pid"], number)
        return {"pid": daemon["pid"]}

    def stop(self, patience: float) -> None:
        """Daemons end in the reverse of their starting order; FUSE connections of this world are cut after them."""
        deadline = time.monotonic() + patience
        for daemon in reversed(list(self.daemons.values())):
            if "exit" not in daemon:
                os.kill(daemon["pid"], signal.SIGTERM)
        while time.monotonic() < deadline and any("exit" not in d for d in self.daemons.values()):
            self.reap()
            time.sleep(0.01)
        for minor in fuse_minors() - self.foreign_fuse:
            try:
                Path(f"/sys/fs/fuse/connections/{minor}/abort").write_text("1")
            except OSError:
                pass  # gone meanwhile

    def serve(self) -> None:
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_write, False)
        os.set_blocking(wake_read, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

        def woken() -> None:
            try:
                os.read(wake_read, 4096)
            except BlockingIOError:
                pass
            self.reap()

        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(self.config["socket"] + ".new")
        os.chmod(self.config["socket"] + ".new", 0o666)
        listener.listen(128)
        self.selector.register(listener, selectors.EVENT_READ, lambda: self.accept(listener))
        self.selector.register(wake_read, selectors.EVENT_READ, woken)
        os.rename(self.config["socket"] + ".new", self.config["socket"])  # appears only once it answers
        while not self.stopping:
            for key, _ in self.selector.select():
                key.data()
                if self.stopping:
                    break


def main() -> None:
    config = json.loads(Path(sys.argv[1]).read_text())
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    world = World(config)
    world.build()
    world.serve()


if __name__ == "__main__":
    main()
