"""How doctor tries a bucket, and what it says of each thing that does not work."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import obstore
import pytest
from obstore.store import S3Store

from outpaint_mcp.cli.bucket import check_bucket
from outpaint_mcp.cli.findings import Level

from ..s3_server import S3Server


async def test_a_bucket_is_tried_and_left_as_it_was(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    bucket = s3_server.new_bucket()
    (found,) = await check_bucket(f"s3://{bucket}/of/ours", plain_http=True)
    assert found.level is Level.OK
    s3_server.put(bucket, "last", b"x")
    assert (await check_bucket(f"s3://{bucket}", plain_http=True))[0].level is Level.OK
    left = await obstore.list(S3Store(bucket, client_options={"allow_http": True})).collect_async()
    assert [one["path"] for one in left] == ["last"]
    (found,) = await check_bucket("s3://no-such-bucket", plain_http=True)
    assert (found.level, "does not exist" in found.message) == (Level.PROBLEM, True)


@pytest.mark.parametrize(
    ("allowed", "permission"), [((), "ListBucket"), (("HEAD",), "PutObject"), (("HEAD", "PUT"), "GetObject")]
)
async def test_what_a_bucket_does_not_permit_is_named(
    allowed: tuple[str, ...], permission: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            denied = self.command not in allowed
            body = b"<Error><Code>AccessDenied</Code></Error>" if denied and self.command != "HEAD" else b""
            self.send_response(403 if denied else 404 if self.command == "HEAD" else 200)
            self.send_header("ETag", '"1"')
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_HEAD = do_PUT = do_GET = answer

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
            monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
            monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush-hush")
            (found,) = await check_bucket("s3://images", plain_http=True)
        finally:
            server.shutdown()
            thread.join()
    assert (found.level, f"s3:{permission}" in (found.advice or "")) == (Level.PROBLEM, True)
    assert "hush-hush" not in f"{found.message} {found.advice}"


async def test_a_bucket_that_is_not_reached_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush-hush")
    for plain_http in (True, False):
        (found,) = await check_bucket("s3://images", plain_http=plain_http)
        assert (found.level, "AWS_ENDPOINT_URL" in (found.advice or "")) == (Level.PROBLEM, True)
