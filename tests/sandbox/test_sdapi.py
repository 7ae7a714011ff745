"""The sdapi family in the sandbox, held against what its sources say."""

import base64
import io
import json
from collections.abc import Callable
from typing import Any

import anyio
import httpx2
import pytest
from PIL import Image

from outpaint_mcp.sandbox import ManualClock, PlainPainter, Sandbox, SandboxSettings

from .test_iopaint import mask, picture

IMG2IMG, JOBS = "/sdapi/v1/img2img", "/sdcpp/v1"
PROGRESS = "/sdapi/v1/progress?skip_current_image=true"

Client = httpx2.AsyncClient


@pytest.fixture
def program(connect: Callable[..., Client]) -> Callable[..., Client]:
    """A client of a program that is set so; it draws at once unless `sleep` is given."""

    def program(**settings: Any) -> Client:
        given = {"seconds_per_state": 0.0, "painter": PlainPainter(), **settings}
        return connect(Sandbox(SandboxSettings(**given)), "sdapi")

    return program


def order(**changes: Any) -> dict[str, Any]:
    fields = {"init_images": [picture((128, 96))], "mask": mask((128, 96)), "width": 128, "height": 96}
    return {**fields, "prompt": "a lake", "seed": 3, "steps": 20, **changes}


def images(answer: httpx2.Response) -> list[Image.Image]:
    assert answer.status_code == 200, answer.text
    return [Image.open(io.BytesIO(base64.b64decode(one))) for one in answer.json()["images"]]


async def test_it_draws_what_the_mask_covers_and_stretches_to_the_size_that_it_is_told(
    program: Callable[..., Client],
) -> None:
    (image,) = images(await program().post(IMG2IMG, json=order(unknown=1)))
    with Image.open(io.BytesIO(base64.b64decode(picture((128, 96))))) as own:
        assert image.convert("RGB").crop((80, 0, 128, 96)).tobytes() == own.crop((80, 0, 128, 96)).tobytes()
        assert image.getpixel((9, 9)) != own.getpixel((9, 9))
    unsized = {name: value for name, value in order().items() if name not in ("width", "height")}
    assert images(await program().post(IMG2IMG, json=unsized))[0].size == (512, 512)


async def test_a_grid_comes_first_and_the_users_settings_choose_the_format(program: Callable[..., Client]) -> None:
    answer = await program().post(IMG2IMG, json=order(n_iter=2))
    info = json.loads(answer.json()["info"])
    assert (len(images(answer)), info["index_of_first_image"], info["all_seeds"]) == (3, 1, [3, 4])
    set_so = {"samples_format": "jpg", "return_grid": False}
    answer = await program(sdapi_options=set_so).post(IMG2IMG, json=order(n_iter=2))
    assert [one.format for one in images(answer)] == ["JPEG", "JPEG"]
    assert json.loads(answer.json()["info"])["index_of_first_image"] == 0
    assert (await program(sdapi_server="sdnext").post(IMG2IMG, json=order())).json()["info"] == ""


async def test_one_run_at_a_time_and_what_is_interrupted_is_answered_half_drawn(
    program: Callable[..., Client],
) -> None:
    go = anyio.Event()

    async def sleep(seconds: float) -> None:
        await go.wait()

    client = program(sleep=sleep, seconds_per_state=1.0)
    whole = images(await program().post(IMG2IMG, json=order()))
    answers: dict[str, httpx2.Response] = {}

    async def draw(name: str) -> None:
        answers[name] = await client.post(IMG2IMG, json=order(force_task_id=name))

    async def own(name: str) -> dict[str, Any]:
        return dict((await client.post("/internal/progress", json={"id_task": name})).json())

    async with anyio.create_task_group() as group:
        group.start_soon(draw, "one")
        with anyio.fail_after(20):
            while not (await own("one"))["active"]:  # noqa: ASYNC110 (the program tells when it is asked)
                await anyio.sleep(0.01)
        group.start_soon(draw, "two")
        with anyio.fail_after(20):
            while not (found := await own("two"))["queued"]:  # noqa: ASYNC110
                await anyio.sleep(0.01)
        assert (found["active"], found["textinfo"]) == (False, "In queue: 1/1")
        assert (await client.post("/sdapi/v1/interrupt")).json() == {}
        state = (await client.get(PROGRESS)).json()["state"]
        assert (state["interrupted"], state["job_count"], state["sampling_steps"]) == (True, 1, 20)
        go.set()
    stopped, after = (images(answers[name])[0] for name in ("one", "two"))
    assert stopped.tobytes() != whole[0].tobytes() == after.tobytes()
    assert (await own("one"))["completed"]
    begun = [json.loads(answers[name].json()["info"])["job_timestamp"] for name in ("one", "two")]
    idle = (await client.get(PROGRESS)).json()["state"]
    assert (idle["interrupted"], idle["job_count"], idle["job_timestamp"]) == (False, 0, begun[1])
    assert begun[0] == state["job_timestamp"] != begun[1]


@pytest.mark.parametrize(
    ("server", "changes", "status", "body"),
    [
        ("a1111", {"init_images": []}, 404, {"detail": "Init image not found"}),
        ("forge", {"sampler_name": "nosuch"}, 400, {"detail": "Sampler not found"}),
        (
            "a1111",
            {"sampler_name": "nosuch"},
            400,
            {"error": "HTTPException", "detail": "Sampler not found", "body": "", "errors": "400: Sampler not found"},
        ),
        ("forge", {"mask": "!!!"}, 500, {"detail": "Invalid encoded image"}),
        ("sdnext", {"mask": "!!!"}, 500, {"error": "Invalid encoded image"}),
        ("sd.cpp", {"prompt": ""}, 400, {"error": "prompt required"}),
    ],
)
async def test_each_program_refuses_in_its_own_shape(
    program: Callable[..., Client], server: str, changes: dict[str, Any], status: int, body: dict[str, Any]
) -> None:
    answer = await program(sdapi_server=server).post(IMG2IMG, json=order(**changes))
    assert (answer.status_code, answer.json()) == (status, body)


async def test_what_is_no_order_is_a_422_and_what_is_no_route_a_404(program: Callable[..., Client]) -> None:
    answer = await program().post(IMG2IMG, json=order(steps="many"))
    assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (422, ["body", "steps"])
    for server, path in (("sd.cpp", "/sdapi/v1/options"), ("a1111", f"{JOBS}/capabilities")):
        found = await program(sdapi_server=server).get(path)
        assert found.status_code == 404
    assert (await program(sdapi_server="sdnext").post("/sdapi/v1/interrupt")).status_code == 204


async def test_a_login_is_asked_for_where_it_was_started_with_one(program: Callable[..., Client]) -> None:
    client = program(sdapi_login="user:pass")
    answer = await client.get("/sdapi/v1/options")
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Basic")
    known = await client.get("/sdapi/v1/options", headers={"authorization": "Basic dXNlcjpwYXNz"})
    assert known.json()["sd_model_checkpoint"].startswith("sd-v1-5-inpainting")


async def test_sd_servers_jobs_are_polled_cannot_be_stopped_in_the_middle_and_expire(
    program: Callable[..., Client],
) -> None:
    clock = ManualClock()
    client = program(sdapi_server="sd.cpp", clock=clock, seconds_per_state=1.0)
    body = {"prompt": "a lake", "init_image": picture((128, 96)), "mask_image": mask((128, 96)), "seed": 3}
    body |= {"width": 128, "height": 96, "batch_count": 2}
    accepted = await client.post(f"{JOBS}/img_gen", json=body)
    assert (accepted.status_code, accepted.json()["status"]) == (202, "queued")
    job = f"{JOBS}/jobs/{accepted.json()['id']}"
    assert accepted.json()["poll_url"] == job
    clock.advance(1.5)
    assert (await client.get(job)).json()["status"] == "generating"
    assert (await client.post(f"{job}/cancel")).status_code == 409
    clock.advance(1)
    done = (await client.get(job)).json()
    assert (done["status"], done["error"], len(done["result"]["images"])) == ("completed", None, 2)
    with Image.open(io.BytesIO(base64.b64decode(done["result"]["images"][0]["b64_json"]))) as image:
        assert image.size == (128, 96)
    other = (await client.post(f"{JOBS}/img_gen", json=body)).json()["id"]
    assert (await client.post(f"{JOBS}/jobs/{other}/cancel")).json()["status"] == "cancelled"
    clock.advance(600)
    assert [(await client.get(path)).status_code for path in (job, f"{JOBS}/jobs/job_0")] == [410, 404]
    for _ in range(64):
        assert (await client.post(f"{JOBS}/img_gen", json=body)).status_code == 202
    assert (await client.post(f"{JOBS}/img_gen", json=body)).json() == {"error": "job queue is full"}
    assert (await client.post(f"{JOBS}/img_gen", json={**body, "prompt": ""})).status_code == 400
