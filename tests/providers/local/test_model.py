"""A model of the user's own: both contracts, with stand-ins that show what they were given."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import anyio
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper
from PIL import Image

from outpaint_mcp.cli.doctor import check_inpaint_model
from outpaint_mcp.cli.findings import Level
from outpaint_mcp.providers.local.draw_error import DrawError
from outpaint_mcp.providers.local.model import Model
from outpaint_mcp.providers.local.plan import Canvas
from outpaint_mcp.providers.local.workers import DrawJob, Workers
from outpaint_mcp.settings import child_environment

pytestmark = pytest.mark.anyio

GREEN = (0, 200, 0)
CANVAS = Canvas(120, 90, 20, 15)
Inputs = Mapping[str, tuple[int, Sequence[str | int]]]
"""Each input's type and shape."""


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def pixels() -> NDArray[np.uint8]:
    # Busy, so that nothing of the new area is plain ground.
    return np.random.default_rng(0).integers(0, 256, (60, 80, 3)).astype(np.uint8)


def _model(path: Path, nodes: list[onnx.NodeProto], inputs: Inputs, output: int) -> Path:
    infos = [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()]
    result = helper.make_tensor_value_info("result", output, None)
    graph = helper.make_graph(nodes, "stand-in", infos, [result])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def _constant(name: str, kind: int, values: list[float]) -> onnx.NodeProto:
    return helper.make_node(
        "Constant", [], [name], value=helper.make_tensor(name, kind, [1, len(values), 1, 1], values)
    )


def migan(path: Path) -> Path:
    """Keeps the picture where the mask is 255 and paints the rest green, in bytes of any size."""
    nodes = [
        _constant("green", TensorProto.UINT8, list(GREEN)),
        _constant("all", TensorProto.UINT8, [255]),
        helper.make_node("Equal", ["mask", "all"], ["kept"]),
        helper.make_node("Where", ["kept", "image", "green"], ["result"]),
    ]
    inputs: Inputs = {
        "image": (TensorProto.UINT8, [1, 3, "H", "W"]),
        "mask": (TensorProto.UINT8, [1, 1, "H", "W"]),
    }
    return _model(path, nodes, inputs, TensorProto.UINT8)


def lama(path: Path, top: float) -> Path:
    """Keeps the picture where the mask is 0 and paints the rest green, at 64x64; `top` is the answer's white."""
    nodes = [
        _constant("green", TensorProto.FLOAT, [value / 255 for value in GREEN]),
        _constant("half", TensorProto.FLOAT, [0.5]),
        _constant("top", TensorProto.FLOAT, [top]),
        helper.make_node("Greater", ["hole", "half"], ["new"]),
        helper.make_node("Where", ["new", "green", "picture"], ["painted"]),
        helper.make_node("Mul", ["painted", "top"], ["result"]),
    ]
    inputs: Inputs = {
        "picture": (TensorProto.FLOAT, [1, 3, 64, 64]),
        "hole": (TensorProto.FLOAT, [1, 1, 64, 64]),
    }
    return _model(path, nodes, inputs, TensorProto.FLOAT)


@pytest.mark.parametrize(
    "make",
    [migan, lambda path: lama(path, 1), lambda path: lama(path, 255)],
    ids=["MI-GAN", "LaMa to 1", "LaMa to 255"],
)
def test_the_model_paints_what_is_new_and_nothing_else(
    make: Callable[[Path], Path], tmp_path: Path, pixels: NDArray[np.uint8]
) -> None:
    drawn = Model(make(tmp_path / "model.onnx")).paint(pixels, CANVAS)
    assert drawn.shape == (90, 120, 3)
    assert np.array_equal(drawn[15:75, 20:100], pixels)
    # Beside the original the model's coarser pixels run.
    assert np.abs(drawn[:8].astype(int) - GREEN).max() <= 1
    assert np.abs(drawn[:, 110:].astype(int) - GREEN).max() <= 1


def test_a_large_canvas_is_painted_smaller(tmp_path: Path) -> None:
    pixels = np.full((40, 3000, 3), 90, np.uint8)
    drawn = Model(migan(tmp_path / "model.onnx")).paint(pixels, Canvas(3000, 60, 0, 20))
    assert np.array_equal(drawn[20:], pixels)
    assert np.abs(drawn[:10].astype(int) - GREEN).max() <= 1


def test_what_is_no_inpainting_model_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "text.onnx"
    text.write_text("no model")
    one = _model(
        tmp_path / "one.onnx",
        [helper.make_node("Identity", ["image"], ["result"])],
        {"image": (TensorProto.FLOAT, [1, 3, 8, 8])},
        TensorProto.FLOAT,
    )
    for path, says in ((text, "cannot load it"), (one, "its inputs are image"), (tmp_path / "none.onnx", "not there")):
        with pytest.raises(DrawError, match=says):
            Model(path)


async def drawn_by_worker(folder: Path, pixels: NDArray[np.uint8], model: Path) -> tuple[NDArray[np.uint8], list[str]]:
    Image.fromarray(pixels).save(folder / "original.png")
    job = DrawJob(folder / "original.png", CANVAS, "fast", (1,), folder / "images")
    notes: list[str] = []
    workers = Workers(1, environment=child_environment(), inpaint_model=model)
    with anyio.fail_after(60):
        (image,) = await workers.draw(job, lambda _: None, on_note=notes.append)
    return np.asarray(Image.open(image.path)), notes


async def test_the_worker_draws_with_the_model_that_is_set(tmp_path: Path, pixels: NDArray[np.uint8]) -> None:
    drawn, notes = await drawn_by_worker(tmp_path, pixels, migan(tmp_path / "mine.onnx"))
    assert np.array_equal(drawn[15:75, 20:100], pixels)
    new = np.ones((90, 120), bool)
    new[15:75, 20:100] = False
    assert np.median(np.abs(drawn[new].astype(int) - GREEN)) <= 1
    assert any("mine.onnx" in note and "experimental" in note for note in notes), notes


async def test_doctor_tries_the_model_and_shows_its_hash(tmp_path: Path) -> None:
    path = lama(tmp_path / "mine.onnx", 1)
    (found,) = await check_inpaint_model(path, child_environment())
    assert found.level is Level.OK
    assert hashlib.sha256(path.read_bytes()).hexdigest() in found.message
    for name, says in (("gone.onnx", "cannot be read"), ("text.onnx", "cannot load it")):
        (tmp_path / "text.onnx").write_text("no model")
        (found,) = await check_inpaint_model(tmp_path / name, child_environment())
        assert found.level is Level.PROBLEM
        assert says in found.message


async def test_a_model_that_cannot_be_used_fails_the_drawing_and_says_why(
    tmp_path: Path, pixels: NDArray[np.uint8]
) -> None:
    with pytest.raises(DrawError, match="OUTPAINT_INPAINT_MODEL names gone"):
        await drawn_by_worker(tmp_path, pixels, tmp_path / "gone.onnx")
