"""Moto's S3 in a process of its own, on loopback; it ends with whoever started it."""

import contextlib
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from itertools import count

SERVE = """
import sys
from moto.server import ThreadedMotoServer

server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()  # until nobody is at the other end
"""


class S3Server:
    """The server: its environment for clients, and its buckets."""

    def __init__(self, process: "subprocess.Popen[str]", port: int) -> None:
        self._process = process
        self.url = f"http://127.0.0.1:{port}"
        self._numbers = count()

    @property
    def environment(self) -> Mapping[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "hush-hush",
            "AWS_REGION": "us-east-1",
        }

    def new_bucket(self) -> str:
        """The name of an empty bucket."""
        name = f"images-{os.getpid()}-{next(self._numbers)}"
        request = urllib.request.Request(f"{self.url}/{name}", method="PUT")  # noqa: S310 - loopback
        urllib.request.urlopen(request).close()  # noqa: S310
        return name

    def put(self, bucket: str, name: str, data: bytes) -> None:
        """As somebody else would who may write there."""
        # Moto waits for more of a body that urllib calls a form by itself.
        more = {"Content-Type": "image/png"}
        request = urllib.request.Request(f"{self.url}/{bucket}/{name}", data, more, method="PUT")  # noqa: S310
        urllib.request.urlopen(request).close()  # noqa: S310

    @contextlib.contextmanager
    def hanging(self) -> Iterator[None]:
        """Meanwhile it takes connections and answers nothing."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def running_s3() -> Iterator[S3Server]:
    command = [sys.executable, "-c", SERVE]
    pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=nowhere, text=True) as process:
        assert process.stdout is not None
        port = process.stdout.readline()
        assert port.strip(), "moto did not start"
        yield S3Server(process, int(port))
        process.communicate()
