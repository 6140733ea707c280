"""Trees to put on an origin."""

import contextlib
import grp
import os
import pwd
import random
import socket
import stat
import subprocess
from pathlib import Path

from cluster import GROUP, USERS

CHUNK = 1 << 20


STATE = 'echo "$ATLAS_CACHE_STATE"'  # for a job script


def warm(root: Path) -> tuple[str, str]:
    """The options of a job that waits for a dataset."""
    return f"--atlas-dataset={root}", "--atlas-warm"


def uid(user: str) -> int:
    return pwd.getpwnam(user).pw_uid


def gid(user: str) -> int:
    return pwd.getpwnam(user).pw_gid


def small_files(root: Path, files: int, size: int, seed: int = 1, per_directory: int = 100) -> int:
    """`files` files of `size` random bytes; returns all their bytes together."""
    source = random.Random(seed)
    for number in range(files):
        directory = root / f"d{number // per_directory:04d}"
        if number % per_directory == 0:
            directory.mkdir(parents=True, exist_ok=True)
        (directory / f"f{number:06d}").write_bytes(source.randbytes(size))
    return files * size


def big_file(path: Path, size: int, seed: int = 2) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    source = random.Random(seed)
    with path.open("wb") as file:
        left = size
        while left > 0:
            left -= file.write(source.randbytes(min(CHUNK, left)))
    return size


def nasty_tree(root: Path) -> None:
    """Everything that a tree may hold and a copy may get wrong. Owned by the first user but for what says otherwise."""
    first, second = USERS
    root.mkdir(parents=True)
    base = os.fsencode(root)

    def put(name: bytes, data: bytes, mode: int = 0o644, user: str = first) -> bytes:
        path = os.path.join(base, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data)
        os.chown(path, uid(user), gid(user))
        os.chmod(path, mode)
        return path

    put(b"plain", b"plain\n" * 1000)
    put(b"empty", b"")
    put(b"n" * 255, b"a name of 255 bytes")
    put(b"\xff\xfe not utf-8", b"bytes")
    put(b"spaces  and\nnewline %s 'quotes\" $(false); *", b"hostile name")
    put(b"deep/" + b"/".join([b"x" * 100] * 10) + b"/leaf", b"deep")
    put(b"mode000-mine", b"nobody reads this", 0o000)
    put(b"mode000-other", b"nor this", 0o000, second)
    put(b"mode600-mine", b"first only", 0o600)
    put(b"mode600-other", b"second only", 0o600, second)
    put(b"mode640-group", b"group only", 0o640, "root")
    os.chown(os.path.join(base, b"mode640-group"), 0, grp.getgrnam(GROUP).gr_gid)
    put(b"mode4755", b"#!/bin/sh\nid -u\n", 0o4755, "root")
    put(b"mode2755", b"#!/bin/sh\nid -g\n", 0o2755, "root")
    put(b"executable", b"#!/bin/sh\necho ran\n", 0o755)
    hard = put(b"hard1", b"one inode, two names" * 100)
    os.link(hard, os.path.join(base, b"deep", b"hard2"))
    os.symlink("plain", os.path.join(base, b"link"))
    os.symlink("no/such/file", os.path.join(base, b"dangling"))
    os.symlink("/etc/hostname", os.path.join(base, b"outward"))
    os.symlink("../plain", os.path.join(base, b"deep", b"up"))
    for loop, target in (("itself", "itself"), ("ping", "pong"), ("pong", "ping"), ("around", "../" + root.name)):
        os.symlink(target, os.path.join(base, loop.encode()))
    for name in (b"case/name", b"case/Name", b"case/NAME/name"):
        put(name, name)
    os.mkfifo(os.path.join(base, b"fifo"), 0o644)
    os.mknod(os.path.join(base, b"device"), stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(os.path.join(base, b"disk"), stat.S_IFBLK | 0o666, os.makedev(7, 0))
    with contextlib.chdir(root), socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")  # by a short name: longer ones do not fit into an address
    sparse = put(b"sparse3g", b"")
    with open(sparse, "r+b") as file:
        file.truncate(3 << 30)
        file.seek(1 << 30)
        file.write(b"an island in a hole" * 1000)
    attributed = put(b"attributes", b"with attributes")
    os.setxattr(attributed, b"user.colour", b"blue\0green")
    subprocess.run(["setfacl", "-m", f"u:{second}:r--,g:{GROUP}:---", attributed], check=True)
    put(b"private-mine/inside", b"first's own")
    put(b"private-other/inside", b"second's own", 0o644, second)
    put(b"unlisted/inside", b"by name only")
    for name, mode, user in ((b"private-mine", 0o700, first), (b"private-other", 0o700, second), (b"unlisted", 0o711, first),
                             (b"deep", 0o755, first)):
        os.chown(os.path.join(base, name), uid(user), gid(user))
        os.chmod(os.path.join(base, name), mode)
    os.mkdir(os.path.join(base, b"empty-directory"))
    when = 1_000_000_000_123_456_789
    for directory, directories, files in os.walk(base, topdown=False):
        for name in files + directories:
            when += 1_000_000_007
            os.utime(os.path.join(directory, name), ns=(when, when), follow_symlinks=False)
    os.utime(base, ns=(when, when))
