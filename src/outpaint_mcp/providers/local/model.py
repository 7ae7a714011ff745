"""An inpainting model that the user brings, in place of the engine's own stages: an ONNX file, run on the CPU.

Experimental: such models were made for holes, and nobody has measured them at borders. Two contracts are known, told
apart by the types of the model's inputs:

- MI-GAN's pipeline, version 2 (Sargsyan et al. 2023): `image` (8 bits, 1x3xHxW) and `mask` (8 bits, 1x1xHxW, 255 where
  pixels are kept) of any size; the answer is a picture of that size.
- LaMa (Suvorov et al. 2022) as it is usually exported: a picture and a mask of a fixed size, mostly 512x512, in
  floating point, the picture from 0 to 1, the mask 1 where there is a hole; the answer is from 0 to 1 or from 0 to 255.
"""

from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from outpaint_mcp.providers.local.draw_error import DrawError
from outpaint_mcp.providers.local.plan import Canvas
from outpaint_mcp.providers.local.subject import Pixels

_LONGEST: Final = 2048  # pixels of the canvas's longer side that a model of any size is given
_MULTIPLE: Final = 8  # of which the sides of such a canvas are


class Model:
    """The model in the file `path`.

    Raises:
        DrawError: onnxruntime is not installed, or the file is not a model of a known contract.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.name
        try:
            import onnxruntime  # type: ignore[import-untyped]
        except ImportError:
            raise DrawError("OUTPAINT_INPAINT_MODEL needs onnxruntime. Install outpaint-mcp[onnx].") from None
        onnxruntime.disable_telemetry_events()
        options = onnxruntime.SessionOptions()
        # As for the engine: one thread per image. Warnings are nobody's.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        if not path.is_file():
            raise DrawError(f"OUTPAINT_INPAINT_MODEL names {path.name}, which is not there. Give the path of a model.")
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise self._unusable(f"onnxruntime cannot load it ({type(error).__name__})") from error
        inputs = self._session.get_inputs()
        kinds = [one.type for one in inputs]
        if len(inputs) != 2 or [len(one.shape) for one in inputs] != [4, 4]:
            raise self._unusable(f"its inputs are {', '.join(one.name for one in inputs) or 'none'}")
        self._image, self._mask = (one.name for one in inputs)
        if kinds == ["tensor(uint8)"] * 2:
            self._takes_bytes = True
        elif kinds == ["tensor(float)"] * 2:
            self._takes_bytes = False
        else:
            raise self._unusable(f"its inputs are of the types {' and '.join(kinds)}")
        height, width = inputs[0].shape[2:]
        self._size = (width, height) if isinstance(width, int) and isinstance(height, int) else None

    def paint(self, pixels: Pixels, canvas: Canvas) -> Pixels:
        """The canvas with its new area painted, at the model's resolution. `pixels` are height x width x 3.

        Raises:
            DrawError: the model fails, or answers with something else than a picture.
        """
        height, width = pixels.shape[:2]
        size = self._size or _even(canvas)
        image = Image.new("RGB", (canvas.width, canvas.height))
        image.paste(Image.fromarray(pixels), (canvas.x, canvas.y))
        hole = Image.new("L", image.size, 255)
        hole.paste(0, (canvas.x, canvas.y, canvas.x + width, canvas.y + height))
        # Where a pixel is partly new, it is new.
        new = np.asarray(hole.resize(size, Image.Resampling.BOX)) > 0
        small = np.asarray(image.resize(size, Image.Resampling.BOX)) * ~new[..., None]
        planes = np.ascontiguousarray(small.transpose(2, 0, 1)[None])
        if self._takes_bytes:
            given = {self._image: planes, self._mask: np.where(new, 0, 255).astype(np.uint8)[None, None]}
        else:
            given = {self._image: planes / np.float32(255), self._mask: new.astype(np.float32)[None, None]}
        try:
            answer: Any = self._session.run(None, given)[0]
        except Exception as error:
            raise self._unusable(f"it fails at {size[0]}x{size[1]} ({type(error).__name__})") from error
        if getattr(answer, "shape", None) != planes.shape:
            raise self._unusable("its answer is not a picture of the size that it was given")
        values = np.nan_to_num(np.asarray(answer[0], np.float32)).transpose(1, 2, 0)
        if not self._takes_bytes and values.max() <= 2:
            values = values * 255
        painted = Image.fromarray((values + 0.5).clip(0, 255).astype(np.uint8))
        drawn = np.array(painted.resize(image.size, Image.Resampling.LANCZOS))
        drawn[canvas.y : canvas.y + height, canvas.x : canvas.x + width] = pixels
        return drawn

    def _unusable(self, why: str) -> DrawError:
        return DrawError(
            f"The model {self.name} cannot be used: {why}. Give MI-GAN's pipeline (version 2) or LaMa as an ONNX file."
        )


def _even(canvas: Canvas) -> tuple[int, int]:
    scale = min(1.0, _LONGEST / max(canvas.width, canvas.height))
    width, height = (
        max(_MULTIPLE, round(side * scale / _MULTIPLE) * _MULTIPLE) for side in (canvas.width, canvas.height)
    )
    return width, height
