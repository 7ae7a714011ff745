"""Runs the program in processes that are forked when all is imported, which is most of what a server's start takes.

Listens at the Unix socket that is its argument, until its standard input ends. Over each connection come a byte with
the socket that becomes the process's stderr, and a line of JSON, ``{"arguments": [...], "environment": {...}}``. The
process's id goes out, and once it has ended its exit code, negative after a signal; each is a line.
"""

import gc
import importlib
import json
import os
import select
import signal
import socket
import sys

import anyio

from outpaint_mcp.cli.main import main
from outpaint_mcp.providers import provider_classes

LATER_IMPORTED = (
    "cryptography.hazmat.primitives.ciphers.aead",
    "outpaint_mcp.images.bucket",
    "outpaint_mcp.server.app",
    "outpaint_mcp.settings",
    "outpaint_mcp.storage.opening",
    "outpaint_mcp.storage.postgres.jobs",
    "outpaint_mcp.storage.postgres.store",
    "outpaint_mcp.storage.sqlite.store",
    "outpaint_mcp.tasks.scheduler",
    "outpaint_mcp.web.app",
    "outpaint_mcp.web.metrics",
    "outpaint_mcp.web.uvicorn_server",
    "uvicorn.protocols.http.h11_impl",
)
"""What the program imports when it is needed."""


def next_asked(path: str) -> socket.socket | None:
    """In the process that is forked for it the next connection; None in the end."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(100)
        sys.stdout.write("listening\n")
        sys.stdout.flush()
        while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
            connection, _ = listener.accept()
            if os.fork() == 0:
                return connection
            connection.close()
    return None


def received(connection: socket.socket) -> tuple[list[str], dict[str, str], int]:
    """The arguments, the environment and the file number of the stderr of the process that is asked for."""
    _, (stderr,), _, _ = socket.recv_fds(connection, 1, 1)
    with connection.makefile() as lines:
        asked = json.loads(lines.readline())
    return asked["arguments"], asked["environment"], stderr


def run(path: str) -> int:
    # Nobody asks for the exit codes of those who watch the processes.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for name in LATER_IMPORTED:
        importlib.import_module(name)
    provider_classes()
    anyio.run(anyio.sleep, 0)
    # So that no collection of garbage writes to the pages that the processes share.
    gc.freeze()
    connection = next_asked(path)
    if connection is None:
        return 0
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    arguments, environment, stderr = received(connection)
    process = os.fork()
    if process == 0:
        connection.close()
        os.dup2(stderr, 2)
        os.close(stderr)
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        os.dup2(0, 1)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = ["outpaint-mcp", *arguments]
        return main()
    os.close(stderr)
    with connection:
        connection.sendall(b"%d\n" % process)
        _, status = os.waitpid(process, 0)
        connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1]))
