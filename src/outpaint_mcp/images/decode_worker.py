"""A process that decodes pictures: ``python -m outpaint_mcp.images.decode_worker``.

A hostile file can then cost a process, never the server. Each line of standard input is a JSON object with an `action`
and a `file`: ``measure`` and ``size`` (of a file that this program drew itself, without decoding it) tell what a
picture is, ``preview`` makes a small JPEG. Each is answered with one line: ``{"answer": ...}``, or ``{"refused":
{message, advice}}`` after which the process ends, as it does after `MOST` pictures or `IDLE_SECONDS` without one:
nothing that a file did to it lasts. Knows nothing of where pictures come from.
"""

import base64
import contextlib
import json
import os
import select
import sys
from pathlib import Path
from typing import Any, Final

MOST: Final = 100
IDLE_SECONDS: Final = 20.0
NICENESS: Final = 10
_MAX_MEMORY: Final = 3 * 1024**3
_MAX_CPU_SECONDS: Final = 60


def main() -> int:
    """Answer what stands on standard input; the exit code."""
    _limit_memory()
    for _ in range(MOST):
        line = _next_line()
        if not line:
            break
        _limit_time()
        question = json.loads(line)
        answer = _answered(question["action"], Path(question["file"]))
        sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
        sys.stdout.buffer.flush()
        if "answer" not in answer:
            break
    return 0


def _next_line() -> bytes:
    """The next question; nothing if none comes."""
    # Who asks sends a line and waits for its answer, so none is ever left in the buffer.
    if sys.platform != "win32" and not select.select([sys.stdin.buffer], [], [], IDLE_SECONDS)[0]:
        return b""
    return sys.stdin.buffer.readline()


def _answered(action: str, file: Path) -> dict[str, Any]:
    from outpaint_mcp.domain.errors import InvalidImageError

    try:
        return {"answer": _do(action, file)}
    except InvalidImageError as error:
        return {"refused": {"message": error.message, "advice": error.advice}}
    except MemoryError:
        message = "There is not enough memory to open this picture."
        return {"refused": {"message": message, "advice": "Give a smaller picture."}}


def _do(action: str, file: Path) -> Any:
    from outpaint_mcp.images import decode as image_file

    if action == "preview":
        return base64.b64encode(image_file.preview_jpeg(file)).decode()
    if action == "size":
        return _size(file)
    info = image_file.measure(file)
    return {"mime_type": info.mime_type, "width": info.width, "height": info.height}


def _size(file: Path) -> dict[str, str | int]:
    """From the header alone: a picture drawn here may be larger than one that is taken in."""
    from PIL import Image

    from outpaint_mcp.domain.errors import InvalidImageError
    from outpaint_mcp.images.decode import MIME_TYPES

    try:
        with Image.open(file, formats=tuple(MIME_TYPES)) as image:
            return {"mime_type": MIME_TYPES[image.format or ""], "width": image.width, "height": image.height}
    except (OSError, KeyError, SyntaxError, ValueError) as error:
        raise InvalidImageError("The file that was drawn is not a picture.", "Order it again.") from error


def _limit_memory() -> None:
    """So that the machine outlives a bomb, and the server goes before its decoders. Not everywhere possible."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("800")
    if sys.platform != "win32":
        import resource

        os.nice(NICENESS)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_AS, (_MAX_MEMORY, _MAX_MEMORY))


def _limit_time() -> None:
    """So that a process whose server died in the middle of a picture ends too."""
    if sys.platform != "win32":
        import resource

        usage = resource.getrusage(resource.RUSAGE_SELF)
        soonest = int(usage.ru_utime + usage.ru_stime) + 1
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_CPU, (soonest + _MAX_CPU_SECONDS, hard))


if __name__ == "__main__":
    sys.exit(main())
