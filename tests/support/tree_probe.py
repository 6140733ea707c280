"""Prints what the calling user sees of a tree, as JSON: `tree_probe.py ROOT`. Compared between a job and the origin itself.

For each path: type, mode, owner, size, times in ns, link target, hard-link peers, user and ACL attributes, and either a hash of the
content or the error the user gets. Not compared, because they cannot be equal: inode numbers, ctime, sizes and link counts of directories.
"""

import errno
import hashlib
import json
import os
import stat
import sys

CHUNK = 1 << 20
ZEROS = bytes(CHUNK)


def content(path: bytes) -> str:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        return errno.errorcode[error.errno]
    digest, at = hashlib.sha256(), 0
    try:
        while data := os.read(fd, CHUNK):
            if data != ZEROS[:len(data)]:  # a file of 3 GiB that is all hole is not worth hashing
                digest.update(at.to_bytes(8, "big") + data)
            at += len(data)
    except OSError as error:
        return f"{errno.errorcode[error.errno]} at {at}"
    finally:
        os.close(fd)
    return f"{digest.hexdigest()} {at}"


def attributes(path: bytes) -> dict:
    result = {}
    try:
        for name in sorted(os.listxattr(path, follow_symlinks=False)):
            if name.startswith("user.") or name.startswith("system.posix_acl"):
                result[name] = os.getxattr(path, name, follow_symlinks=False).hex()
    except OSError as error:
        return {"error": errno.errorcode[error.errno]}
    return result


def text(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape").encode("utf-8", "backslashreplace").decode()


def probe(root: bytes) -> dict:
    seen: dict[str, dict] = {}
    peers: dict[tuple[int, int], list[str]] = {}

    def visit(path: bytes) -> None:
        name = text(os.path.relpath(path, root))
        try:
            st = os.lstat(path)
        except OSError as error:
            seen[name] = {"error": errno.errorcode[error.errno]}
            return
        entry: dict = {"type": stat.S_IFMT(st.st_mode), "mode": oct(stat.S_IMODE(st.st_mode)), "uid": st.st_uid, "gid": st.st_gid,
                       "mtime": st.st_mtime_ns, "attributes": attributes(path)}
        seen[name] = entry
        if stat.S_ISDIR(st.st_mode):
            try:
                names = sorted(os.listdir(path))
            except OSError as error:
                entry["list"] = errno.errorcode[error.errno]
                return
            entry["list"] = [text(n) for n in names]
            for child in names:
                visit(os.path.join(path, child))
            return
        entry["size"] = st.st_size
        entry["links"] = st.st_nlink
        if stat.S_ISLNK(st.st_mode):
            entry["target"] = text(os.readlink(path))
        elif stat.S_ISREG(st.st_mode):
            entry["content"] = content(path)
            if st.st_nlink > 1:
                peers.setdefault((st.st_dev, st.st_ino), []).append(name)

    visit(root)
    return {"entries": seen, "peers": sorted(sorted(group) for group in peers.values())}


if __name__ == "__main__":
    json.dump(probe(os.fsencode(sys.argv[1])), sys.stdout, indent=1, sort_keys=True)
