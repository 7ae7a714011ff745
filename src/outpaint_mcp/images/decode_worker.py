"""The process that decodes images: ``python -m outpaint_mcp.images.decode_worker``.

A hostile file then costs a process, never the server. Each line of standard input is a JSON object with an `action` and
a `file`: ``measure`` and ``size`` (of a file that this program drew itself, without decoding it) give an image's type
and size, ``shrink`` a small copy's type and its bytes in base64; ``clean`` writes a copy that may leave this machine
`to` another file, scaled and put on a canvas as `clean_copy` says, with a mask at `mask_to`, and gives its type,
length, size and notes; ``paste`` writes the image with the `original` put over it as
`finish` says, and gives what `paste_back` does.
Each is answered with one line: ``{"done": ...}``, or ``{"error": {message, advice, undecided}}`` after which the
process ends, as it does after `MAX_IMAGES` images or `IDLE_SECONDS` without one, so that whatever a file did to it does
not last.
"""

import base64
import contextlib
import json
import os
import select
import sys
from pathlib import Path
from typing import Any, Final

MAX_IMAGES: Final = 100
IDLE_SECONDS: Final = 20.0
NICENESS: Final = 10
MAX_MEMORY: Final = 3 * 1024**3
_MAX_CPU_SECONDS: Final = 15
_MAX_PASTE_SECONDS: Final = 60


def main() -> int:
    """Answer the lines of standard input; returns the exit code."""
    _limit_memory()
    for _ in range(MAX_IMAGES):
        line = _next_line()
        if not line:
            break
        job = json.loads(line)
        _limit_time(_MAX_PASTE_SECONDS if job["action"] == "paste" else _MAX_CPU_SECONDS)
        message = _message(job)
        sys.stdout.buffer.write(json.dumps(message).encode() + b"\n")
        sys.stdout.buffer.flush()
        if "error" in message:
            break
    return 0


def _next_line() -> bytes:
    """The next job; empty if none comes."""
    # The next line is sent only after this one is answered, so none is ever left in the buffer.
    if sys.platform != "win32" and not select.select([sys.stdin.buffer], [], [], IDLE_SECONDS)[0]:
        return b""
    return sys.stdin.buffer.readline()


def _message(job: dict[str, Any]) -> dict[str, Any]:
    from outpaint_mcp.domain.errors import InvalidImageError

    try:
        return {"done": _do(job["action"], Path(job["file"]), job)}
    except InvalidImageError as error:
        return {"error": {"message": error.message, "advice": error.advice, "undecided": False}}
    except MemoryError:
        message = "There is not enough memory to open this image."
        return {"error": {"message": message, "advice": "Give a smaller image.", "undecided": True}}


def _do(action: str, file: Path, job: dict[str, Any]) -> Any:
    from outpaint_mcp.images.decode import measure, shrink

    match action:
        case "shrink":
            from outpaint_mcp.images.small_copy import SmallCopy

            mime_type, data = shrink(file, SmallCopy(**job["copy"]))
            return mime_type, base64.b64encode(data).decode()
        case "size":
            return _size(file)
        case "clean":
            from outpaint_mcp.images.canvas_copy import write_mask
            from outpaint_mcp.images.clean_copy import clean_copy

            copy = clean_copy(file, job["size"] and tuple(job["size"]), job["canvas"] and tuple(job["canvas"]))
            Path(job["to"]).write_bytes(copy.data)
            if job["mask_to"]:
                write_mask(Path(job["mask_to"]), job["size"], job["canvas"])
            return copy.mime_type, len(copy.data), copy.width, copy.height, copy.needless, copy.notes
        case "paste":
            from outpaint_mcp.domain.finish import Finish
            from outpaint_mcp.domain.frame import Frame
            from outpaint_mcp.domain.working_canvas import WorkingCanvas
            from outpaint_mcp.images.paste_back import paste_back

            given = job["finish"]
            working = given["working"] and WorkingCanvas(**given["working"])
            finish = Finish(tuple(Frame(**one) for one in given["frames"]), working, given["pastes"])
            return paste_back(file, Path(job["original"]), finish, Path(job["to"]))
        case _:
            from outpaint_mcp.images.containers import contents_of

            return *measure(file), False, len(contents_of(file.read_bytes()).data)


def _size(file: Path) -> tuple[str, int, int]:
    """As `measure`, by the header alone: an image that was drawn here may be larger than an input image."""
    from outpaint_mcp.domain.errors import InvalidImageError
    from outpaint_mcp.images.containers import contents_of
    from outpaint_mcp.images.formats import MIME_TYPES, open_untrusted

    try:
        with open_untrusted(contents_of(file.read_bytes()).data) as image:
            return MIME_TYPES[image.format or ""], image.width, image.height
    except (OSError, KeyError, SyntaxError, ValueError) as error:
        raise InvalidImageError("The file that was drawn is not an image.", "Order it again.") from error


def _limit_memory() -> None:
    """So that a decompression bomb ends this process, and neither the server nor the machine. Where the system can."""
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
        # Before NumPy is imported: each thread takes much of the address space that is allowed.
        os.environ[variable] = "1"
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("800")
    if sys.platform != "win32":
        import resource

        os.nice(NICENESS)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))


def _limit_time(seconds: int) -> None:
    """So that this process ends too when its server dies while it decodes."""
    if sys.platform != "win32":
        import resource

        usage = resource.getrusage(resource.RUSAGE_SELF)
        soonest = int(usage.ru_utime + usage.ru_stime) + 1
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_CPU, (soonest + seconds, hard))


if __name__ == "__main__":
    sys.exit(main())
