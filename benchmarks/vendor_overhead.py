"""What an order and a status question cost over the same request made directly, against a vendor on loopback.

The vendor answers at once from a bare socket server in a thread of its own process; both ways use one kept connection.
Medians of the differences are to be under 3 ms (order) and 2 ms (status).

Run: ``.venv/bin/python benchmarks/vendor_overhead.py [--repeats N]``
"""

import argparse
import json
import multiprocessing
import statistics
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection

import anyio
import httpx2

from outpaint_mcp.domain.order import Order, Parent
from outpaint_mcp.providers.http_client import HttpClient
from outpaint_mcp.providers.legnext import Legnext

UUID = "5b0e8b1a-0000-4000-8000-000000000001"
JOB = {"job_id": UUID, "task_type": "outpaint", "status": "processing", "output": {}, "error": {"code": 0}}


class Vendor(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        body = json.dumps(JOB).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        # In one write: two small ones would wait for each other's acknowledgement.
        self.wfile.write(head.encode() + body)

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        pass


def serve(port: Connection) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Vendor)
    port.send(server.server_port)
    server.serve_forever()


async def measure(port: int, repeats: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in ("direct order", "order", "direct status", "status")}
    base = f"http://127.0.0.1:{port}"
    order = Order("legnext", Parent(UUID, index=2), zoom=1.5, key="key")
    async with HttpClient() as client, httpx2.AsyncClient() as direct:
        provider = Legnext(client, key="key", base_url=base)
        body = {"jobId": UUID, "imageNo": 1, "scale": 1.5}
        ways = {
            "direct order": lambda: direct.post(f"{base}/v1/outpaint", json=body),
            "order": lambda: provider.start(order),
            "direct status": lambda: direct.get(f"{base}/v1/job/{UUID}"),
            "status": lambda: provider.poll(UUID),
        }
        for turn in range(repeats + 5):
            for name, way in ways.items():
                began = time.perf_counter()
                await way()
                if turn >= 5:  # connections and caches are warm by then
                    times[name].append(1000 * (time.perf_counter() - began))
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=50)
    repeats = parser.parse_args().repeats
    ours, theirs = multiprocessing.Pipe()
    vendor = multiprocessing.Process(target=serve, args=(theirs,), daemon=True)
    vendor.start()
    try:
        times = anyio.run(measure, ours.recv(), repeats)
    finally:
        vendor.terminate()
        vendor.join()
    print("| request | direct, median ms | through the provider | over direct |\n|---|---|---|---|")
    for name in ("order", "status"):
        direct, through = (statistics.median(times[way]) for way in (f"direct {name}", name))
        print(f"| {name} | {direct:.2f} | {through:.2f} | {through - direct:.2f} |")


if __name__ == "__main__":
    main()
