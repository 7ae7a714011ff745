"""How your own image reaches a vendor: scaled, as bytes within JSON, or in a form on a canvas with a mask."""

import base64
import hashlib
import hmac
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import httpx2
import pytest
from PIL import Image

import outpaint_mcp.providers as api
from outpaint_mcp.domain.errors import InvalidRequestError, UnsupportedFeatureError
from outpaint_mcp.domain.request import OutpaintRequest

from ..counting import MovedClock, running, service_over
from ..providers.network import Queue, form_of

JOB = {"id": "job-7", "status": "working", "region": "north"}


class _Job(api.Answer):
    id: api.Id = "job-7"
    status: api.Text
    region: api.Text = ""
    image: api.Text = ""


def _place(frame: api.Frame) -> Mapping[str, Any]:
    return {"canvas": [frame.canvas_width, frame.canvas_height], "at": [frame.x, frame.y, frame.width, frame.height]}


ARGUMENTS: dict[api.Feature, api.Argument] = {
    api.Feature.SIDES: api.Argument("any"),
    api.Feature.WEBHOOK_URL: api.Argument("any", "?hook"),
    api.Feature.PROVIDER_OPTIONS: api.Argument("any"),
}
PLAIN = api.Operation(
    "/plain",
    source=api.Argument(wire="picture"),
    arguments=ARGUMENTS,
    frame=api.FrameFields(_place, ("canvas", "at")),
    canvas=api.CanvasLimits(max_side=60),
    takes_url=True,
)
FORM = api.Operation(
    "/form",
    source=api.Argument(wire="picture"),
    arguments={**ARGUMENTS, api.Feature.PROMPT: api.Argument("any", "prompt")},
    frame=api.FrameFields(_place, ("canvas", "at")),
    canvas=api.CanvasLimits(multiple=16),
    multipart=True,
    mask="mask",
)


class Frames(api.HttpProvider):
    """Has two models, of which one wants a form; its result is read apart from the state."""

    name = "frames"
    title = "Frames"
    base_url = "https://frames.example"
    key_env = "FRAMES_KEY"
    docs_url = "https://frames.example/docs"
    price = "unknown"
    image_lifetime = "unknown"
    sources = (api.SourceForm.OWN_IMAGE,)
    operations: ClassVar = {api.SourceKind.IMAGE: PLAIN}
    variant_option = "model"
    variants: ClassVar = {"plain": PLAIN, "form": FORM}
    fetch_path = "/jobs/{id}"
    result_path = "/jobs/{id}/result"
    first_poll = poll_interval = 1.0
    usual_seconds = 5.0
    statuses: ClassVar = api.status_words(running="working", succeeded="done", failed="failed")

    def parse_fetch(self, body: Any) -> api.TaskUpdate:
        job = self.read_as(_Job, body)
        return self.update(job.status, remote_id=job.id, reference=job.region or None)

    def has_result(self, body: Any) -> bool:
        return bool(self.read_as(_Job, body).status == "done")

    def parse_result(self, body: Any) -> api.TaskUpdate:
        return self.update("done", urls=(self.read_as(_Job, {"status": "done", **body}).image,))


def image_bytes(size: tuple[int, int] = (48, 32), *, turned: bool = False) -> bytes:
    buffer = io.BytesIO()
    exif = Image.Exif()
    if turned:
        exif[0x0112] = 6
    Image.linear_gradient("L").resize(size).convert("RGB").save(buffer, "PNG", exif=exif)
    return buffer.getvalue()


async def ordered(folder: Path, image: bytes, **asked: Any) -> tuple[httpx2.Request, list[str]]:
    """The request that an order of a file comes to, and the task's notes."""
    clock, queue = MovedClock(), Queue([httpx2.Response(200, json=JOB)])
    path = folder / "image.png"
    path.write_bytes(image)
    provider = Frames(queue.client(), key="key")
    async with running(service_over(folder, provider, clock=clock), clock) as service:
        task = await service.outpaint(OutpaintRequest(image=str(path), provider="frames", **asked), at_least=30)
    assert task.remote_id == "job-7", task
    return queue.requests[0], list(task.notes)


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


async def test_an_image_within_json_is_upright_scaled_into_the_limits_and_its_place_told(tmp_path: Path) -> None:
    asked, notes = await ordered(tmp_path, image_bytes((32, 48), turned=True), zoom=2.0, sides=("left",))
    body = json.loads(asked.content)
    assert body.keys() == {"picture", "canvas", "at"}
    assert (body["canvas"], body["at"]) == ([60, 20], [30, 0, 30, 20])
    head, _, data = body["picture"].partition(",")
    assert head == "data:image/png;base64"
    assert opened(base64.b64decode(data)).size == (30, 20)
    assert "with your image scaled from 48x32 to 30x20." in notes[0]


async def test_a_form_holds_the_image_on_its_canvas_and_a_mask_that_is_clear_where_to_paint(tmp_path: Path) -> None:
    asked, _ = await ordered(
        tmp_path,
        image_bytes(),
        zoom=2.0,
        sides=("right",),
        prompt="a lake",
        provider_options={"model": "form", "n": 2},
    )
    parts = form_of(asked)
    assert parts.keys() == {"picture", "mask", "canvas", "at", "prompt", "n"}, "what is ours is not sent"
    assert (parts["canvas"], parts["n"], parts["prompt"]) == (b"[96, 32]", b"2", b"a lake")
    picture, mask = opened(parts["picture"]), opened(parts["mask"])
    assert picture.size == mask.size == (96, 32)
    for drawn in (picture, mask):
        assert drawn.crop((0, 0, 48, 32)).getchannel("A").getextrema() == (255, 255)
        assert drawn.crop((48, 0, 96, 32)).getchannel("A").getextrema() == (0, 0)
    assert picture.convert("RGB").crop((0, 0, 48, 32)).tobytes() == opened(image_bytes()).tobytes()


def test_a_variant_is_refused_what_only_another_has_and_what_there_is_not() -> None:
    provider = Frames(Queue([]).client(), key="key")
    with pytest.raises(UnsupportedFeatureError, match="Frames has no prompt for your own image by plain"):
        provider.check(OutpaintRequest(image="a.png", prompt="a lake"), api.SourceKind.IMAGE)
    provider.check(
        OutpaintRequest(image="a.png", prompt="a lake", provider_options={"model": "form"}), api.SourceKind.IMAGE
    )
    with pytest.raises(InvalidRequestError, match="no model 'oil' that extends images") as refused:
        provider.check(OutpaintRequest(image="a.png", provider_options={"model": "oil"}), api.SourceKind.IMAGE)
    assert "plain or form" in refused.value.advice
    assert provider.info().features["picture"]["prompt"] == "any (form)"


async def test_a_webhook_can_be_a_parameter_of_the_url_and_a_result_is_read_once_there_is_one() -> None:
    queue = Queue(
        [
            httpx2.Response(200, json={"status": "done"}),
            httpx2.Response(200, json={"image": "https://frames.example/1.png"}),
            httpx2.Response(200, json={"status": "done"}),
            httpx2.Response(422, json={"detail": [{"msg": "flagged", "type": "content_policy_violation"}]}),
        ]
    )
    provider = Frames(queue.client(), key="key")
    order = api.Order(
        "frames",
        api.InputImage("0" * 64, "image/png", 48, 32, url="https://example.com/a.png"),
        frame=api.Frame.around(48, 32, zoom=1.5),
        webhook=api.Webhook("https://example.com/done?a=b&c"),
    )
    assert provider.build_submit(order).path == "/plain?hook=https%3A%2F%2Fexample.com%2Fdone%3Fa%3Db%26c"
    done = await provider.poll("job-7", "north")
    assert [image.url for image in done.images] == ["https://frames.example/1.png"]
    failed = await provider.poll("job-7", "north")
    assert (failed.status, failed.failure and failed.failure.provider_code) == (
        api.Status.FAILED,
        "content_policy_violation",
    )


class Signing(Frames):
    """Signs its webhooks with a secret of the account's."""

    webhook_signed_with: ClassVar[Literal["key", "token", "account"]] = "account"
    webhook_secret_path = "/secret"

    def parse_webhook_secret(self, body: Any) -> str:
        return str(body["key"])

    def read_webhook(self, headers: Mapping[str, str], body: bytes, key: str | None) -> str:
        signature = hmac.new((key or "").encode(), body, hashlib.sha256).hexdigest()
        if not hmac.compare_digest(headers["signature"], signature):
            raise InvalidRequestError("The callback's signature is wrong.", "Sign it with the account's secret.")
        return str(json.loads(body)["id"])


class SigningByOrder(Signing):
    """Signs each with the secret that its order gave along."""

    webhook_signed_with = "token"


@pytest.mark.parametrize(("kind", "secret"), [(Signing, "of the account"), (SigningByOrder, "of the order")])
async def test_a_callback_is_checked_with_the_secret_that_the_vendor_signs_with(
    kind: type[Signing], secret: str
) -> None:
    queue = Queue([httpx2.Response(200, json={"key": "of the account"})])
    provider = kind(queue.client(), key="key")
    body = b'{"id": "job-7"}'
    headers = {"signature": hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}
    for _ in range(2):
        assert await provider.called_back(headers, body, "of the order") == "job-7"
    assert [one.url.path for one in queue.requests] == ["/secret"] * (kind is Signing), "it is read once"
    with pytest.raises(InvalidRequestError, match="signature is wrong"):
        await provider.called_back({"signature": "0" * 64}, body, "of the order")
