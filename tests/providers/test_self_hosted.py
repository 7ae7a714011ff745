"""An engine of the operator's own: what it is handed, what becomes of its answer, and who may be handed a file."""

import base64
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

import httpx2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

import outpaint_mcp.providers as api
from outpaint_mcp.domain.task import Task
from outpaint_mcp.domain.working_canvas import WorkingCanvas
from outpaint_mcp.providers.canvases import Canvases
from outpaint_mcp.providers.local.provider import LocalProvider
from outpaint_mcp.providers.local.workers import Workers
from outpaint_mcp.providers.self_hosted import EngineOptions, SelfHosted
from outpaint_mcp.tasks.service import Service

from ..counting import MovedClock, running, service_over
from ..decoding import LibraryInThisProcess
from ..images.test_paste_back import scene
from .easel import file_at

Pixels = NDArray[np.uint8]
NEAR, FAR = "http://192.168.7.9:9000", "https://kiln.example.com"


class KilnOptions(EngineOptions):
    steps: Annotated[int, Field(ge=1, le=50)] = 20
    negative_prompt: str = ""


class Kiln(SelfHosted, api.SynchronousProvider):
    """Fires what it is handed as JSON, and answers with the image."""

    name = "kiln"
    title = "Kiln"
    key_env = "KILN_AUTHORIZATION"
    docs_url = "https://kiln.example/docs"
    options = KilnOptions
    operations: ClassVar = {api.SourceKind.IMAGE: SelfHosted.operation_with(KilnOptions)}
    usual_seconds = 5.0

    async def start(self, order: api.Order) -> api.TaskUpdate:
        assert order.frame is not None
        working = WorkingCanvas.of(order.frame, max_pixels=200_000, multiple=16)
        canvas = await self._canvases.draw(order, working)
        files = {"picture": canvas.picture, "mask": canvas.mask}
        body = {name: base64.b64encode(data).decode() for name, data in files.items()}
        answer = await self._client.order(self._endpoint(order), api.ApiCall("POST", "/fire", json=body), lambda b: b)
        image = await self._keep(answer, order.client)
        notes = self.size_notes(working, order.frame)
        return api.TaskUpdate(
            api.Status.SUCCEEDED, order.key, images=(image,), reference=working.reference, notes=notes
        )

    def parse_images(self, body: Any) -> api.Painted:
        raise NotImplementedError


@dataclass
class Fire:
    """The engine: it shifts the colours of all that it gets, and answers in `size` if it is told to."""

    size: tuple[int, int] | None = None
    pictures: list[Pixels] = field(default_factory=list)
    masks: list[Pixels] = field(default_factory=list)
    requests: list[httpx2.Request] = field(default_factory=list)

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        body = json.loads(request.content)
        picture, mask = (np.asarray(Image.open(io.BytesIO(base64.b64decode(body[of])))) for of in ("picture", "mask"))
        self.pictures.append(picture)
        self.masks.append(mask)
        fired = Image.fromarray((picture.astype(int) + 5).clip(0, 255).astype(np.uint8))
        fired = fired if self.size is None else fired.resize(self.size)
        buffer = io.BytesIO()
        fired.save(buffer, "PNG")
        return httpx2.Response(200, content=buffer.getvalue(), headers={"content-type": "image/png"})


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture
def fire() -> Fire:
    return Fire()


def kiln(folder: Path, fire: Fire, base_url: str | None = NEAR, key: str | None = None, *found: str) -> Kiln:
    async def look_up(host: str, port: int) -> Sequence[str]:
        if not found:
            raise OSError("no such host")
        return found

    client = api.HttpClient(transport=httpx2.MockTransport(fire.answer))
    images = LibraryInThisProcess(folder, roots=())
    canvases = Canvases(folder, Workers())
    return Kiln(client, canvases=canvases, resolver=look_up, keep=images.keep_answer, key=key, base_url=base_url)


def service_of(folder: Path, engine: Kiln, clock: MovedClock, **options: Any) -> Service:
    return service_over(folder, engine, LocalProvider(folder), clock=clock, **options)


def drawn(task: Task) -> Image.Image:
    assert task.status is api.Status.SUCCEEDED, task.failure
    return Image.open(io.BytesIO(file_at(task.images[0].url)))


def asking(folder: Path, size: tuple[int, int] = (96, 64), **more: Any) -> api.OutpaintRequest:
    scene(size).save(folder / "own.png")
    return api.OutpaintRequest(**{"image": str(folder / "own.png"), "provider": "kiln", "zoom": 1.5, **more})


@pytest.mark.parametrize("size", [(301, 211), (613, 457)], ids=["as it is", "scaled down"])
async def test_any_size_comes_out_exact_with_the_originals_own_pixels(
    size: tuple[int, int], tmp_path: Path, clock: MovedClock, fire: Fire
) -> None:
    own = scene(size)
    async with running(service_of(tmp_path, kiln(tmp_path, fire), clock), clock) as service:
        asked = asking(tmp_path, size, zoom=1.3, sides=("left", "top"))
        task = await service.outpaint(asked, at_least=60)
    wide, tall = round(size[0] * 1.3), round(size[1] * 1.3)
    result = drawn(task)
    assert result.size == (wide, tall) == (task.images[0].width, task.images[0].height)
    assert np.array_equal(np.asarray(result)[tall - size[1] :, wide - size[0] :], np.asarray(own))
    sent, mask = fire.pictures[0], fire.masks[0]
    assert [side % 16 for side in sent.shape[:2]] == [0, 0]
    assert sent.shape[:2] == mask.shape
    # What is far from the original is the engine's; the first fill is no plain grey.
    corners = [one[: one.shape[0] // 8, : one.shape[1] // 8].mean() for one in (np.asarray(result), sent)]
    assert corners[0] - corners[1] == pytest.approx(5, abs=1.5)
    assert sent[:20].std() > 10
    at = (sent.shape[0] * 3 // 4, sent.shape[1] * 3 // 4)
    assert (mask[0, 0], mask[at]) == (255, 0)
    assert len(np.unique(mask)) > 5, "it fades"
    scaled = size[0] * size[1] * 1.69 > 200_000
    assert any("scaled to" in note for note in task.notes) == scaled


async def test_without_the_original_the_answer_alone_has_the_ordered_size(
    tmp_path: Path, clock: MovedClock, fire: Fire
) -> None:
    # It answers twice as large as it was asked.
    fire.size = (2 * 304, 2 * 160)
    async with running(service_of(tmp_path, kiln(tmp_path, fire), clock), clock) as service:
        asked = asking(tmp_path, (201, 151), sides=("right",), provider_options={"keep_original": False})
        task = await service.outpaint(asked, at_least=60)
    assert drawn(task).size == (302, 151)
    box = np.asarray(drawn(task))[20:100, 20:100].astype(int) - np.asarray(scene((201, 151)))[20:100, 20:100]
    assert box.mean() == pytest.approx(5, abs=1)


async def test_an_answer_of_another_shape_has_the_original_where_it_is_found(
    tmp_path: Path, clock: MovedClock, fire: Fire
) -> None:
    fire.size = (304, 130)
    async with running(service_of(tmp_path, kiln(tmp_path, fire), clock), clock) as service:
        asked = asking(tmp_path, (201, 151))
        task = await service.outpaint(asked, at_least=60)
    assert any("another shape" in note for note in task.notes)


@pytest.mark.parametrize(
    ("base_url", "addresses", "near"),
    [
        ("http://127.0.0.1:9000", (), True),
        ("http://localhost:9000", (), True),
        ("http://[::1]:9000", (), True),
        ("http://[::ffff:127.0.0.1]:9000", (), True),
        ("http://0.0.0.0:9000", (), True),
        ("http://user:password@10.0.0.7:9000", (), True),
        ("http://10.1.2.3", (), True),
        ("http://[fd00::7]:9000", (), True),
        (FAR, ("203.0.114.9",), False),
        (FAR, ("192.168.1.4",), True),
        (FAR, ("192.168.1.4", "203.0.114.9"), False),
        (FAR, (), False),
        ("http://8.8.8.8:9000", (), False),
        ("http://169.254.169.254", (), False),
        ("http://134744072", ("8.8.8.8",), False),
    ],
)
async def test_near_is_what_has_loopback_and_private_addresses_alone(
    base_url: str, addresses: tuple[str, ...], near: bool, tmp_path: Path, fire: Fire
) -> None:
    engine = kiln(tmp_path, fire, base_url, None, *addresses)
    await engine.locate()
    assert engine.leaves_owner == (not near)


@pytest.mark.parametrize(("addresses", "who"), [(("192.168.1.4",), "kiln"), (("203.0.114.9",), "local")])
async def test_a_file_goes_to_an_engine_by_itself_only_on_the_operators_own_machines(
    addresses: tuple[str, ...], who: str, tmp_path: Path, clock: MovedClock, fire: Fire
) -> None:
    async with running(service_of(tmp_path, kiln(tmp_path, fire, FAR, None, *addresses), clock), clock) as service:
        task = await service.outpaint(asking(tmp_path, provider="auto"), at_least=60)
    assert task.provider == who
    assert bool(fire.requests) == (who == "kiln")


async def test_an_engine_that_is_named_is_looked_up_too_since_no_proxy_leads_to_a_near_one(
    tmp_path: Path, clock: MovedClock, fire: Fire
) -> None:
    engine = kiln(tmp_path, fire, FAR, None, "192.168.1.4")
    async with running(service_of(tmp_path, engine, clock), clock) as service:
        await service.outpaint(asking(tmp_path), at_least=60)
    assert engine._endpoint().is_near


async def test_a_file_goes_to_a_public_engine_if_the_operator_says_so(
    tmp_path: Path, clock: MovedClock, fire: Fire
) -> None:
    engine = kiln(tmp_path, fire, FAR)
    async with running(service_of(tmp_path, engine, clock, may_leave=True), clock) as service:
        asked = asking(tmp_path, provider="auto")
        assert (await service.outpaint(asked, at_least=60)).provider == "kiln"


async def test_what_stands_before_the_engine_gets_its_header_and_nobody_else_hears_of_it(
    tmp_path: Path, clock: MovedClock, fire: Fire
) -> None:
    engine = kiln(tmp_path, fire, NEAR, "Basic c2VjcmV0")
    async with running(service_of(tmp_path, engine, clock), clock) as service:
        await service.outpaint(asking(tmp_path), at_least=60)
        assert fire.requests[0].headers["authorization"] == "Basic c2VjcmV0"
    assert engine._endpoint().tidy("You sent c2VjcmV0") == "You sent ***"
    wrong = kiln(tmp_path, fire, NEAR, "c2VjcmV0")
    async with running(service_of(tmp_path, wrong, clock), clock) as service:
        with pytest.raises(api.ConfigurationError, match="KILN_AUTHORIZATION is no Authorization header") as found:
            await service.outpaint(asking(tmp_path, zoom=1.6), at_least=60)
    assert "c2VjcmV0" not in str(found.value)


async def test_without_its_address_an_engine_is_not_configured_and_options_have_ranges(
    tmp_path: Path, clock: MovedClock, fire: Fire
) -> None:
    engine = kiln(tmp_path, fire, None)
    async with running(service_of(tmp_path, engine, clock), clock) as service:
        assert (await service.list_providers())[0].needs == ("KILN_BASE_URL",)
        with pytest.raises(api.ConfigurationError, match="KILN_BASE_URL"):
            await service.outpaint(asking(tmp_path))
    engine = kiln(tmp_path, fire)
    async with running(service_of(tmp_path, engine, clock), clock) as service:
        for options in ({"steps": 51}, {"steps": "many"}, {"unknown": 1}):
            with pytest.raises(api.InvalidRequestError, match="does not fit Kiln") as found:
                await service.outpaint(asking(tmp_path, provider_options=options))
            assert "steps (1 to 50), negative_prompt" in found.value.advice
