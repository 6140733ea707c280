"""Speaks to a cluster's world (world.py): a library for cluster.py, and the program behind the commands of `cluster env`.

As a program: world_client.py SOCKET ENV.json COMMAND [ARGUMENT...] runs the command inside the world as the calling user,
in the same directory, with the same stdin, stdout and stderr; Ctrl-C and other signals reach it; its exit code comes back.
"""

import json
import os
import signal
import socket
import struct
import sys


class WorldError(Exception):
    """The world is not there, or refused."""


def connect(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(path)
    except OSError as error:
        connection.close()
        raise WorldError(f"no cluster answers at {path}: {error.strerror}; start one with ./dev cluster up") from error
    return connection


def send(connection: socket.socket, request: dict, fds: list[int] | None = None) -> None:
    body = json.dumps(request).encode("utf-8")
    socket.send_fds(connection, [struct.pack("!Q", len(body))], fds or [])
    connection.sendall(body)


def receive(connection: socket.socket) -> dict:
    line = b""
    while not line.endswith(b"\n") and (piece := connection.recv(1 << 16)):
        line += piece
    if not line:
        raise WorldError("the cluster ended before it answered")
    answer = json.loads(line)
    if "error" in answer:
        raise WorldError(answer["error"])
    return answer


def ask(path: str, request: dict) -> dict:
    with connect(path) as connection:
        send(connection, request)
        return receive(connection)


def main() -> int:
    path, environment_file, *argv = sys.argv[1:]
    with open(environment_file, encoding="utf-8") as file:
        environment = dict(os.environ) | json.load(file)
    try:
        with connect(path) as connection:
            request = {"do": "run", "argv": argv, "env": environment, "cwd": os.getcwd()}
            send(connection, request, [0, 1, 2])
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
                signal.signal(number, lambda received, _: connection.send(bytes([received])))
            answer = receive(connection)
    except WorldError as error:
        print(f"{argv[0]}: {error}", file=sys.stderr)
        return 125
    return answer["exit"] if "exit" in answer else 128 + answer["signal"]


if __name__ == "__main__":
    sys.exit(main())
