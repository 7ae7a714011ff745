"""fal in the sandbox, held against its page."""

import base64
import json
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from outpaint_mcp.sandbox import Fault, ManualClock, Sandbox, SandboxSettings

FLUX, BRIA, FIBO = "/fal-ai/flux-2-pro/outpaint", "/fal-ai/bria/expand", "/bria/fibo-edit-1.5/expand"
APPS = "/fal-ai/image-apps-v2/outpaint"
IMAGE = "http://127.0.0.1:7000/image.png"
SizeOf = Callable[[httpx2.Response], tuple[int, int]]


@pytest.fixture
def client(sandbox: Sandbox, connect: Callable[..., httpx2.AsyncClient]) -> httpx2.AsyncClient:
    return connect(sandbox, "fal")


async def ordered(client: httpx2.AsyncClient, path: str, **fields: Any) -> str:
    """The id of a request for the image of 60 x 40."""
    answer = await client.post(path, json={"image_url": IMAGE, **fields})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["request_id"])


async def test_a_request_is_polled_below_its_app_until_its_result_is_there(
    client: httpx2.AsyncClient, clock: ManualClock, size_of: SizeOf
) -> None:
    taken = (await client.post(FLUX, json={"image_url": IMAGE, "expand_left": 30, "expand_bottom": 8})).json()
    assert (taken["status"], taken["queue_position"]) == ("IN_QUEUE", 0)
    url = f"http://127.0.0.1:9/fal/fal-ai/flux-2-pro/requests/{taken['request_id']}"
    assert [taken[f"{name}_url"] for name in ("response", "status", "cancel")] == [
        url,
        f"{url}/status",
        f"{url}/cancel",
    ]
    seen = []
    for _ in range(3):
        state = await client.get(f"{url}/status?logs=false")
        seen.append((state.status_code, state.json()["status"]))
        early = await client.get(url)
        clock.advance(1)
    assert seen == [(202, "IN_QUEUE"), (202, "IN_PROGRESS"), (200, "COMPLETED")]
    assert "logs" in state.json()
    (image,) = early.json()["images"]
    assert size_of(await client.get(image["url"])) == (90, 48)
    # The endpoint's own path and another app's know nothing of it.
    for other in ("/fal-ai/flux-2-pro/outpaint", "/fal-ai/bria"):
        assert (await client.get(f"{other}/requests/{taken['request_id']}/status")).status_code in (404, 405)


@pytest.mark.parametrize(
    ("path", "fields", "size"),
    [
        (
            BRIA,
            {"canvas_size": [120, 80], "original_image_size": [90, 60], "original_image_location": [0, 20]},
            (120, 80),
        ),
        (FIBO, {"canvas_size": [120, 80], "prompt": "a lake"}, (120, 80)),
        (BRIA, {"canvas_size": [120, 80], "aspect_ratio": "1:1"}, (60, 60)),
        (APPS, {"expand_bottom": 0, "zoom_out_percentage": 0, "expand_top": 7}, (60, 47)),
        (APPS, {}, (60, 440)),
    ],
)
async def test_each_model_places_the_image_in_its_own_way(
    client: httpx2.AsyncClient, clock: ManualClock, size_of: SizeOf, path: str, fields: dict[str, Any], size: Any
) -> None:
    request_id = await ordered(client, path, **fields)
    clock.advance(2)
    app = "/".join(path.split("/")[:3])
    result = (await client.get(f"{app}/requests/{request_id}")).json()
    image = result["image"] if "image" in result else result["images"][0]
    assert size_of(await client.get(image["url"])) == size


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        (FLUX, {"expand_left": 2049}),
        (FLUX, {"expand_left": -1}),
        (FLUX, {"expand_left": 1.5}),
        (FLUX, {"expand_left": 2000, "expand_right": 600}),
        (FLUX, {"mode": "turbo"}),
        (FLUX, {"prompt": "a lake"}),
        (FLUX, {"output_format": "webp"}),
        (FLUX, {"image_url": "no image"}),
        (FLUX, {"image_url": "http://127.0.0.1:7000/text"}),
        (BRIA, {}),
        (BRIA, {"canvas_size": [5000, 5000]}),
        (BRIA, {"canvas_size": [160, 100]}),
        (BRIA, {"canvas_size": [120, 80], "original_image_location": [61, 0]}),
        (BRIA, {"canvas_size": [120, 80], "aspect_ratio": "21:9"}),
        (APPS, {"expand_left": 701}),
        (f"{FLUX}?fal_webhook=ftp://127.0.0.1/", {}),
    ],
)
async def test_what_the_model_does_not_take_is_rejected(
    sandbox: Sandbox, client: httpx2.AsyncClient, path: str, fields: dict[str, Any]
) -> None:
    answer = await client.post(path, json={"image_url": IMAGE, **fields})
    assert answer.status_code in (400, 422)
    assert answer.json()["detail"]
    assert answer.headers["x-fal-retryable"] == "false"
    assert sandbox.order_count("fal", "outpaint") == 0


async def test_wrong_keys_are_401_and_empty_accounts_are_locked(
    sandbox: Sandbox, settings: SandboxSettings, connect: Callable[..., httpx2.AsyncClient]
) -> None:
    bare = connect(sandbox, "fal", f"Bearer {sandbox.vendors['fal'].key}")
    assert (await bare.post(FLUX, json={"image_url": IMAGE})).status_code == 401
    poor = Sandbox(SandboxSettings(clock=settings.clock, balance=0.08, transport=settings.transport))
    client = connect(poor, "fal")
    # $0.045 for one megapixel of input and one of output.
    answers = [await client.post(FLUX, json={"image_url": IMAGE, "expand_left": 9}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 403]
    assert "balance" in answers[1].json()["detail"]
    poor.close()


async def test_a_failure_is_told_by_the_state_and_in_place_of_the_result(
    sandbox: Sandbox, client: httpx2.AsyncClient, clock: ManualClock
) -> None:
    fault = {"code": "content_policy_violation", "message": "flagged"}
    sandbox.faults.add(Fault.model_validate({"vendor": "fal", "on": "submit", "fault": "fail", **fault}))
    url = f"/fal-ai/flux-2-pro/requests/{await ordered(client, FLUX, expand_left=9)}"
    clock.advance(2)
    state = (await client.get(f"{url}/status")).json()
    assert (state["status"], state["error"], state["error_type"]) == ("COMPLETED", "flagged", fault["code"])
    result = await client.get(url)
    assert (result.status_code, result.json()["detail"][0]["type"]) == (422, fault["code"])


async def test_a_request_that_is_not_completed_can_be_cancelled(client: httpx2.AsyncClient, clock: ManualClock) -> None:
    url = f"/fal-ai/flux-2-pro/requests/{await ordered(client, FLUX, expand_left=9)}"
    answers = [await client.put(f"{url}/cancel") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 400]
    assert answers[0].json() == {"status": "CANCELLATION_REQUESTED"}


async def test_a_webhook_holds_the_result_and_is_signed_with_the_public_key(
    sandbox: Sandbox, client: httpx2.AsyncClient, clock: ManualClock, outgoing: list[httpx2.Request]
) -> None:
    hook = "http://127.0.0.1:8000/hook?a=b"
    answer = await client.post(FLUX, params={"fal_webhook": hook}, json={"image_url": IMAGE, "expand_left": 9})
    taken = answer.json()
    assert taken["gateway_request_id"] == taken["request_id"]
    clock.advance(2)
    await sandbox.webhooks.deliver()
    request = outgoing[-1]
    assert str(request.url) == hook
    told = json.loads(request.content)
    result = (await client.get(f"/fal-ai/flux-2-pro/requests/{taken['request_id']}")).json()
    assert (told["request_id"], told["status"], told["payload"]) == (taken["request_id"], "OK", result)
    headers = [request.headers[f"x-fal-webhook-{name}"] for name in ("request-id", "user-id", "timestamp")]
    signed = "\n".join([*headers, sha256(request.content).hexdigest()]).encode()
    (key,) = (await client.get("/.well-known/jwks.json", headers={"authorization": ""})).json()["keys"]
    public = Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(key["x"] + "="))
    public.verify(bytes.fromhex(request.headers["x-fal-webhook-signature"]), signed)
