"""Worker processes: they draw, queue, are cancelled and killed, and die with their parent."""

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import anyio
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from outpaint_mcp.domain.errors import InvalidImageError
from outpaint_mcp.domain.frame import Frame
from outpaint_mcp.images.decode_worker import MAX_MEMORY
from outpaint_mcp.providers.local.draw_error import DrawError
from outpaint_mcp.providers.local.plan import MAX_DECODE_SECONDS, Canvas
from outpaint_mcp.providers.local.worker import decoding
from outpaint_mcp.providers.local.workers import DrawJob, Workers, seed_of

Landscape = Callable[..., NDArray[np.uint8]]
WORKER = [sys.executable, "-P", "-m", "outpaint_mcp.providers.local.worker"]


@pytest.fixture
def job(tmp_path: Path, landscape: Landscape) -> DrawJob:
    """A job of a fraction of a second."""
    source = tmp_path / "image.png"
    Image.fromarray(landscape()).save(source)
    canvas = Canvas.of(Frame.around(96, 72, zoom=1.5))
    return DrawJob(source, canvas, "fast", (0,), tmp_path / "drawn", "png")


@pytest.fixture
def long_job(tmp_path: Path, landscape: Landscape) -> DrawJob:
    """A job that would take minutes: nobody waits for its end."""
    source = tmp_path / "large.png"
    Image.fromarray(landscape(800, 600)).save(source)
    canvas = Canvas.of(Frame.around(800, 600, zoom=2))
    return DrawJob(source, canvas, "best", tuple(range(50)), tmp_path / "never", "png")


def children() -> set[int]:
    """The processes that this one has started and not yet waited for."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(entry.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == os.getpid():
            found.add(int(entry.parent.name))
    return found


needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="finds the worker under /proc")


async def test_a_job_gives_one_file_per_seed_named_by_its_content(job: DrawJob) -> None:
    two = DrawJob(job.source, job.canvas, job.quality, (7, 8), job.out_dir, job.image_format)
    images = await Workers().draw(two, lambda _part: None)
    assert [image.seed for image in images] == [7, 8]
    assert images[0].path != images[1].path
    original = np.asarray(Image.open(job.source))
    for image in images:
        assert (image.width, image.height, image.mime_type) == (144, 108, "image/png")
        assert image.path.stem == hashlib.sha256(image.path.read_bytes()).hexdigest()
        assert np.array_equal(np.asarray(Image.open(image.path))[18:90, 24:120], original)
    assert sorted(job.out_dir.iterdir()) == sorted(image.path for image in images)


@pytest.mark.parametrize(("image_format", "mime_type"), [("jpeg", "image/jpeg"), ("webp", "image/webp")])
async def test_other_formats_can_be_asked_for(job: DrawJob, image_format: str, mime_type: str) -> None:
    asked = DrawJob(job.source, job.canvas, "fast", (0,), job.out_dir, image_format)  # type: ignore[arg-type]
    (image,) = await Workers().draw(asked, lambda _part: None)
    assert image.mime_type == mime_type
    with Image.open(image.path) as stored:
        assert stored.get_format_mimetype() == mime_type


async def test_the_same_job_gives_the_same_file(job: DrawJob) -> None:
    workers = Workers()
    assert await workers.draw(job, lambda _part: None) == await workers.draw(job, lambda _part: None)


async def test_progress_rises_to_one_over_all_images(job: DrawJob) -> None:
    heard: list[float] = []
    two = DrawJob(job.source, job.canvas, job.quality, (0, 1), job.out_dir, job.image_format)
    await Workers().draw(two, heard.append)
    assert heard == sorted(heard)
    assert heard[-1] == 1.0
    assert any(0 < part < 0.5 for part in heard)
    assert any(0.5 < part < 1 for part in heard)


async def test_a_bad_image_file_is_an_invalid_image(job: DrawJob) -> None:
    job.source.write_bytes(job.source.read_bytes()[:500])
    with pytest.raises(InvalidImageError, match="cut off") as caught:
        await Workers().draw(job, lambda _part: None)
    assert caught.value.advice


async def test_a_canvas_beyond_the_limit_is_refused(job: DrawJob) -> None:
    huge = DrawJob(job.source, Canvas(10_000, 9_000, 0, 0), "fast", (0,), job.out_dir, "png")
    with pytest.raises(InvalidImageError, match="80 megapixels"):
        await Workers().draw(huge, lambda _part: None)


async def test_an_image_is_scaled_before_it_is_extended(job: DrawJob) -> None:
    smaller = replace(job, size=(48, 36), canvas=Canvas.of(Frame.around(48, 36, zoom=1.5)))
    (image,) = await Workers().draw(smaller, lambda _part: None)
    assert (image.width, image.height) == (72, 54)
    kept = np.asarray(Image.open(image.path))[9:45, 12:60]
    scaled = Image.open(job.source).resize((48, 36), Image.Resampling.LANCZOS)
    assert np.abs(kept.astype(int) - np.asarray(scaled)).max() <= 1


async def test_a_folder_that_cannot_be_written_is_a_draw_error(job: DrawJob, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    blocked = DrawJob(job.source, job.canvas, "fast", (0,), tmp_path / "file", "png")
    with pytest.raises(DrawError, match="cannot be stored"):
        await Workers().draw(blocked, lambda _part: None)


async def test_a_job_that_makes_no_sense_is_a_draw_error(job: DrawJob) -> None:
    outside = DrawJob(job.source, Canvas(97, 73, 50, 50), "fast", (0,), job.out_dir, "png")
    with pytest.raises(DrawError, match="wholly"):
        await Workers().draw(outside, lambda _part: None)


@needs_proc
async def test_cancelling_kills_the_worker_and_frees_its_place(job: DrawJob, long_job: DrawJob) -> None:
    workers, before = Workers(limit=1), children()
    async with anyio.create_task_group() as group:

        def cancel(_part: float) -> None:
            assert children() - before
            group.cancel_scope.cancel()

        group.start_soon(workers.draw, long_job, cancel)
    assert children() == before
    assert not long_job.out_dir.exists()
    with anyio.fail_after(20):
        assert await workers.draw(job, lambda _part: None)


def test_time_and_memory_are_limited_while_an_image_is_decoded() -> None:
    limits = resource.RLIMIT_CPU, resource.RLIMIT_AS
    before = [resource.getrlimit(limit) for limit in limits]
    with decoding():
        used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
        assert 0 < resource.getrlimit(resource.RLIMIT_CPU)[0] - used <= MAX_DECODE_SECONDS + 1
        assert resource.getrlimit(resource.RLIMIT_AS)[0] == MAX_MEMORY
    assert [resource.getrlimit(limit) for limit in limits] == before


@needs_proc
async def test_an_image_that_takes_too_long_to_decode_is_invalid(long_job: DrawJob) -> None:
    before = children()

    def send_what_the_limit_sends(_part: float) -> None:
        for process in children() - before:
            os.kill(process, signal.SIGXCPU)

    with pytest.raises(InvalidImageError, match="longer than 10 s to decode"):
        await Workers(limit=1).draw(long_job, send_what_the_limit_sends)


@needs_proc
async def test_a_killed_worker_is_a_draw_error_and_the_next_job_works(job: DrawJob, long_job: DrawJob) -> None:
    workers, before = Workers(limit=1), children()

    def kill(_part: float) -> None:
        for process in children() - before:
            os.kill(process, signal.SIGKILL)

    with pytest.raises(DrawError, match="killed"):
        await workers.draw(long_job, kill)
    assert children() == before
    assert await workers.draw(job, lambda _part: None)


async def test_jobs_beyond_the_limit_wait_for_their_turn(job: DrawJob) -> None:
    workers, events = Workers(limit=1), list[str]()

    async def draw(name: str) -> None:
        await workers.draw(job, lambda _part: None, lambda: events.append(f"{name} starts"))
        events.append(f"{name} ends")

    async with anyio.create_task_group() as group:
        for name in "abc":
            group.start_soon(draw, name)
    assert [event.split()[1] for event in events] == ["starts", "ends"] * 3
    assert [events[i].split()[0] for i in (0, 2, 4)] == [events[i].split()[0] for i in (1, 3, 5)]


async def test_jobs_within_the_limit_run_side_by_side(long_job: DrawJob) -> None:
    """Each job goes on only when the other has begun as well, so one after the other they would never end."""
    workers, begun = Workers(limit=2), list[int]()
    async with anyio.create_task_group() as group:

        async def draw() -> None:
            await workers.draw(long_job, lambda _part: None, lambda: begun.append(1))

        group.start_soon(draw)
        group.start_soon(draw)
        with anyio.fail_after(20):
            while len(begun) < 2:
                await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()


def worker_order(job: DrawJob) -> bytes:
    canvas = {"width": job.canvas.width, "height": job.canvas.height, "x": job.canvas.x, "y": job.canvas.y}
    order = {
        "source": str(job.source),
        "canvas": canvas,
        "quality": job.quality,
        "seeds": list(job.seeds),
        "out_dir": str(job.out_dir),
        "image_format": job.image_format,
    }
    return json.dumps(order).encode() + b"\n"


def test_a_worker_ends_when_its_parent_goes_away(long_job: DrawJob) -> None:
    with subprocess.Popen(WORKER, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(worker_order(long_job))
        process.stdin.flush()
        assert "progress" in json.loads(process.stdout.readline())
        process.stdin.close()
        assert process.wait(timeout=10) == 1


def test_a_worker_says_nothing_but_json_lines_on_stdout(job: DrawJob) -> None:
    with subprocess.Popen(WORKER, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(worker_order(job))
        process.stdin.flush()
        messages = [json.loads(line) for line in process.stdout]
        assert process.wait(timeout=10) == 0
    assert {key for message in messages for key in message} == {"progress", "image", "done"}
    assert messages[-1] == {"done": True}


def test_a_worker_with_nothing_to_do_just_ends() -> None:
    assert subprocess.run(WORKER, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=20).stdout == b""


def test_the_module_that_starts_workers_loads_no_image_library() -> None:
    check = "import sys, outpaint_mcp.providers.local.workers; print({'numpy', 'PIL'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, check=True, text=True, timeout=20)
    assert done.stdout.strip() == "set()"


def test_a_worker_loads_nothing_that_only_the_server_needs() -> None:
    # pydantic and asyncio took half of the time that a small image takes.
    modules = "outpaint_mcp.images.decode, outpaint_mcp.providers.local.engine, outpaint_mcp.providers.local.worker"
    check = f"import sys, {modules}; print({{'pydantic', 'asyncio'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, check=True, text=True, timeout=20)
    assert done.stdout.strip() == "set()"


def test_the_seed_comes_from_the_bytes() -> None:
    assert seed_of(b"an image") == seed_of(b"an image")
    assert seed_of(b"an image") != seed_of(b"another")
    assert 0 <= seed_of(b"") < 2**32
