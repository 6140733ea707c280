"""A job's processes that read random pieces of one file, past the page cache, until they are ended: reader PATH PROCESSES SIZE [TIMES].
With TIMES they write there how long each read took."""

import contextlib
import mmap
import os
import random
import signal
import sys
import time


def read(path: str, size: int, times: str | None) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    pieces = os.fstat(fd).st_size // size
    buffer = mmap.mmap(-1, size)
    took: list[float] = []

    def end(*_: object) -> None:
        if times:
            with open(times, "w", encoding="ascii") as out:
                out.write("\n".join(f"{t:.6f}" for t in took) + "\n")
        os._exit(0)

    signal.signal(signal.SIGTERM, end)
    while True:
        began = time.monotonic()
        os.preadv(fd, [buffer], random.randrange(pieces) * size)
        if times:
            took.append(time.monotonic() - began)


if __name__ == "__main__":
    file, processes, piece = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    children = []
    for number in range(processes):
        child = os.fork()
        if child == 0:
            random.seed(number)
            read(file, piece, sys.argv[4] if len(sys.argv) > 4 else None)
        children.append(child)

    def end_all(*_: object) -> None:
        for pid in children:
            with contextlib.suppress(ProcessLookupError):  # Slurm may have told them, too
                os.kill(pid, signal.SIGTERM)

    signal.signal(signal.SIGTERM, end_all)
    failed = []
    for child in children:
        while True:
            try:
                status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                break
            except InterruptedError:
                continue
        if status:
            failed.append(status)
    sys.exit(f"limit_load: {len(failed)} of {processes} readers ended with {failed}" if failed else 0)
