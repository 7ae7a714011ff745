"""fal's own Python SDK against the sandbox: it places an order and reads the result."""

import datetime
import ipaddress
import json
import os
import sys
from pathlib import Path

import anyio
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.serving import picture

from outpaint_mcp.sandbox import PlainPainter, Sandbox, SandboxSettings
from outpaint_mcp.web.uvicorn_server import listening

# In a process of its own: the SDK reads its host when it is imported.
SCRIPT = """
import json, sys
import fal_client
image = fal_client.encode_file(sys.argv[1])
handle = fal_client.submit("fal-ai/flux-2-pro/outpaint", {"image_url": image, "expand_left": 24})
states = [type(event).__name__ for event in handle.iter_events(interval=0.05)]
result = fal_client.result("fal-ai/flux-2-pro/outpaint", handle.request_id)
bad = None
try:
    fal_client.submit("fal-ai/bria/expand", {"image_url": image})
except fal_client.FalClientHTTPError as error:
    bad = error.status_code
print(json.dumps([states[-1], result, handle.get() == result, bad]))
"""


def certificate(folder: Path) -> Path:
    """A self-signed certificate of 127.0.0.1 and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = folder / "certificate.pem"
    path.write_bytes(made.public_bytes(pem) + private)
    return path


async def test_the_vendors_sdk_places_an_order_and_reads_its_result(tmp_path: Path) -> None:
    sandbox = Sandbox(SandboxSettings(seconds_per_state=0.1, painter=PlainPainter()))
    secure = certificate(tmp_path)
    listener = listening("127.0.0.1", 0)
    config = uvicorn.Config(sandbox.app, lifespan="off", ws="none", log_config=None, ssl_certfile=secure)
    server = uvicorn.Server(config)
    environment = {
        **os.environ,
        "FAL_KEY": sandbox.vendors["fal"].key,
        "FAL_QUEUE_RUN_HOST": f"127.0.0.1:{listener.getsockname()[1]}/fal",
        "SSL_CERT_FILE": str(secure),
        "FAL_HOME_DIR": str(tmp_path),
        "NO_PROXY": "127.0.0.1",
    }
    image = picture(tmp_path, width=48, height=32)
    async with anyio.create_task_group() as group:
        group.start_soon(server.serve, [listener])
        command = [sys.executable, "-c", SCRIPT, str(image)]
        done = await anyio.run_process(command, env=environment, check=False)
        server.should_exit = True
    assert done.returncode == 0, done.stderr.decode()
    state, result, same, bad = json.loads(done.stdout)
    assert (state, same, bad) == ("Completed", True, 422)
    assert result["images"][0]["url"].startswith(f"https://{environment['FAL_QUEUE_RUN_HOST'].removesuffix('/fal')}/")
    assert sandbox.order_count("fal", "outpaint") == 1
    sandbox.close()
