"""The process that draws: ``python -m outpaint_mcp.providers.local.worker``.

One JSON line with the job comes in on standard input; JSON lines go out on standard output: ``{"progress": 0.4}``,
``{"note": "..."}`` for the client, one ``{"image": {...}}`` per seed, and at the end ``{"done": true}`` or
``{"error": {"code": ..., "message": ...}}``. It exits by itself when standard input closes, which is how it learns that
its parent has died.
"""

import contextlib
import hashlib
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from outpaint_mcp.images.decode_worker import MAX_MEMORY, NICENESS
from outpaint_mcp.providers.local.draw_error import DrawError
from outpaint_mcp.providers.local.plan import MAX_DECODE_SECONDS

if TYPE_CHECKING:
    from outpaint_mcp.domain.task import Confidence
    from outpaint_mcp.providers.local.model import Model
    from outpaint_mcp.providers.local.plan import Canvas
    from outpaint_mcp.providers.local.subject import Pixels

# Must be set before NumPy is imported anywhere. One thread per image: the other cores draw other images.
for _variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
    os.environ[_variable] = "1"

_LARGE = 4_000_000
"""Bytes of a PNG from which on a JPEG is advised."""

Say = Callable[[dict[str, Any]], None]


def main() -> None:
    """Do the one job of this process."""
    say = _speaker()
    line = sys.stdin.buffer.readline()
    if not line:
        return
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    os.umask(0o077)
    job = json.loads(line)
    _give_way(job.pop("niceness", NICENESS))
    _draw_or_report(job, say)


def _speaker() -> Say:
    """Reserves standard output for the protocol: whatever else a library prints goes to standard error."""
    lines: TextIO = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def say(message: dict[str, Any]) -> None:
        lines.write(json.dumps(message) + "\n")
        lines.flush()

    return say


def _exit_with_parent() -> None:
    # Not through sys.stdin: its lock, held in this thread, would interfere with the interpreter's exit.
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    os._exit(1)


def _give_way(niceness: int) -> None:
    """Let the server go first, and be the one that Linux kills when memory runs out: that costs one image."""
    if sys.platform != "win32":
        os.nice(niceness)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("800")


def _draw_or_report(job: dict[str, Any], say: Say) -> None:
    try:
        from outpaint_mcp.domain.errors import InvalidImageError

        try:
            _draw(job, say)
        except InvalidImageError as error:
            say({"error": {"code": error.code, "message": error.message, "advice": error.advice}})
        else:
            say({"done": True})
    except DrawError as error:
        say({"error": {"code": "model", "message": str(error)}})
    except MemoryError:
        say({"error": {"code": "out_of_memory", "message": "There is not enough memory to draw this image."}})
    except OSError as error:
        say({"error": {"code": "files", "message": f"The new image cannot be stored ({error.strerror or error})."}})
    except Exception as error:
        say({"error": {"code": "internal", "message": f"Drawing failed ({type(error).__name__}: {error})."}})


@contextlib.contextmanager
def decoding() -> Iterator[None]:
    """Bounds the block's time and memory, since a hostile image may want much of both. Where the system can."""
    if sys.platform == "win32":
        yield
        return
    import resource

    usage = resource.getrusage(resource.RUSAGE_SELF)
    soonest = ceil(usage.ru_utime + usage.ru_stime)
    limits = {resource.RLIMIT_CPU: soonest + MAX_DECODE_SECONDS, resource.RLIMIT_AS: MAX_MEMORY}
    before = {what: resource.getrlimit(what) for what in limits}
    for what, limit in limits.items():
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(what, (limit, before[what][1]))
    yield
    for what, both in before.items():
        resource.setrlimit(what, both)


def _draw(job: dict[str, Any], say: Say) -> None:
    from outpaint_mcp.domain.errors import InvalidImageError
    from outpaint_mcp.images.containers import DEPTH
    from outpaint_mcp.images.decode import open_image
    from outpaint_mcp.providers.local.confidence import remark
    from outpaint_mcp.providers.local.corners import fill_corners
    from outpaint_mcp.providers.local.engine import extend
    from outpaint_mcp.providers.local.plan import LARGEST_SIDE, MAX_PIXELS, Canvas
    from outpaint_mcp.providers.local.raster import MIME_TYPES, encode, keeps_depth, to_pixels, unkept
    from outpaint_mcp.providers.local.transparency import remarks

    canvas, image_format, seeds, size = Canvas(**job["canvas"]), job["image_format"], job["seeds"], job.get("size")
    if canvas.width * canvas.height > MAX_PIXELS:
        limit = f"the limit is {MAX_PIXELS // 1_000_000} megapixels"
        part = (MAX_PIXELS / (canvas.width * canvas.height)) ** 0.5
        fitting = f"{int(canvas.width * part)}x{int(canvas.height * part)}"
        raise InvalidImageError(
            f"The new image would be {canvas.width}x{canvas.height}; {limit}.",
            f"Give a smaller zoom or image: {fitting} would fit.",
        )
    if max(canvas.width, canvas.height) > LARGEST_SIDE[image_format]:
        raise InvalidImageError(
            f"The new image would be {canvas.width}x{canvas.height}; a {image_format} file has at most "
            f"{LARGEST_SIDE[image_format]:,} pixels on a side.",
            "Use the format png.",
        )
    with decoding():
        image = open_image(Path(job["source"]), size)
        lost, cut_off = image.info["lost"], image.info["cut_off"]
        pixels, nature = to_pixels(image, size)
        del image  # its memory is needed
    if cut_off:
        say({"note": cut_off})
    masked = job.get("masked", "")
    if keeps_depth(nature, image_format):
        lost = tuple(one for one in lost if one != DEPTH)
    if not masked and (lost := (*lost, *unkept(nature, image_format))):
        say({"note": f"Not kept in the new image: {'; '.join(lost)}."})
    pixels, notes = fill_corners(pixels, canvas)
    for note in () if masked else notes:
        say({"note": note})
    if masked:
        _draw_for_engine(pixels, canvas, job, say)
        return
    model = _model(job.get("model"), pixels, say)
    reported = -1.0

    for done, seed in enumerate(seeds):

        def progress(part: float, done: int = done) -> None:
            nonlocal reported
            share = (done + 0.95 * part) / len(seeds)
            if share >= reported + 0.01:
                reported = share
                say({"progress": share})

        confidence: dict[str, Confidence] = {}
        if model is None:
            drawn = extend(
                pixels, canvas, quality=job["quality"], seed=seed, progress=progress, on_confidence=confidence.update
            )
        else:
            drawn = model.paint(pixels, canvas)
        encoded = encode(drawn, nature, image_format, (canvas.x, canvas.y))
        if done == 0:
            for note in filter(None, (*remarks(pixels, drawn, image_format), remark(confidence))):
                say({"note": note})
        if done == 0 and image_format == "png" and len(encoded) > _LARGE:
            large = f"The new PNG has {len(encoded) / 10**6:.0f} MB, since PNG is lossless"
            say({"note": f'{large}; provider_options {{"format": "jpeg"}} makes it small.'})
        path = _store(encoded, Path(job["out_dir"]), image_format)
        say(
            {
                "image": {
                    "path": str(path),
                    "mime_type": MIME_TYPES[image_format],
                    "width": canvas.width,
                    "height": canvas.height,
                    "seed": seed,
                    "confidence": confidence or None,
                }
            }
        )
    say({"progress": 1.0})


def _draw_for_engine(pixels: "Pixels", canvas: "Canvas", job: dict[str, Any], say: Say) -> None:
    """What another engine goes on with, and its mask."""
    from outpaint_mcp.providers.local.engine import extend
    from outpaint_mcp.providers.local.first_fill import canvas_and_mask

    seed, folder = job["seeds"][0], Path(job["out_dir"])
    drawn = extend(pixels, canvas, quality=job["quality"], seed=seed, progress=lambda part: None)
    size = pixels.shape[1], pixels.shape[0]
    picture, mask = canvas_and_mask(drawn, size, canvas, in_alpha=job["masked"] == "within")
    image: dict[str, Any] = {"path": str(_store(picture, folder, "png")), "mime_type": "image/png", "seed": seed}
    image |= {"mask": str(_store(mask, folder, "png")), "width": canvas.width, "height": canvas.height}
    say({"image": image})


def _model(path: str | None, pixels: "Pixels", say: Say) -> "Model | None":
    """The user's own model, if it is to paint this image."""
    if path is None:
        return None
    from outpaint_mcp.providers.local.model import Model

    model = Model(Path(path))
    if pixels.shape[2] == 4:
        say({"note": "Drawn without the model, which knows no transparency."})
        return None
    say({"note": f"Painted by the model {model.name}, which is experimental: seed and quality mean nothing to it."})
    return model


def _store(encoded: bytes, folder: Path, extension: str) -> Path:
    """Store under the hash of the content, atomically: a file of that name is always complete."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{hashlib.sha256(encoded).hexdigest()}.{extension}"
    unfinished = folder / f".{path.name}.{os.getpid()}"
    try:
        unfinished.write_bytes(encoded)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


if __name__ == "__main__":
    main()
