"""The process that decodes one picture: ``python -m outpaint_mcp.picture_process ACTION FILE``.

A hostile file can then cost a process, never the server. ``measure`` and ``size`` (of a file that this program drew
itself, without decoding it) print JSON, ``preview`` prints a JPEG. Exit code 3: standard output has a JSON object with
the message and the advice of an `InvalidImageError`. Knows nothing of where pictures come from.
"""

import contextlib
import json
import sys
from pathlib import Path
from typing import Final

REFUSED: Final = 3
_MAX_MEMORY: Final = 3 * 1024**3
_MAX_CPU_SECONDS: Final = 60


def main() -> int:
    """Do the one job of this process; the exit code."""
    _limit_resources()
    action, file = sys.argv[1], Path(sys.argv[2])
    from outpaint_mcp.errors import InvalidImageError

    try:
        answer = _do(action, file)
    except InvalidImageError as error:
        code, answer = REFUSED, _json({"message": error.message, "advice": error.advice})
    except MemoryError:
        advice = "Give a smaller picture."
        code, answer = REFUSED, _json({"message": "There is not enough memory to open this picture.", "advice": advice})
    else:
        code = 0
    sys.stdout.buffer.write(answer)
    sys.stdout.buffer.flush()
    return code


def _do(action: str, file: Path) -> bytes:
    from outpaint_mcp import image_file

    if action == "preview":
        return image_file.preview_jpeg(file)
    if action == "size":
        return _json(_size(file))
    info = image_file.measure(file)
    return _json({"mime_type": info.mime_type, "width": info.width, "height": info.height})


def _size(file: Path) -> dict[str, str | int]:
    """From the header alone: a picture drawn here may be larger than one that is taken in."""
    from PIL import Image

    from outpaint_mcp.errors import InvalidImageError
    from outpaint_mcp.image_file import MIME_TYPES

    try:
        with Image.open(file, formats=tuple(MIME_TYPES)) as image:
            return {"mime_type": MIME_TYPES[image.format or ""], "width": image.width, "height": image.height}
    except (OSError, KeyError, SyntaxError, ValueError) as error:
        raise InvalidImageError("The file that was drawn is not a picture.", "Order it again.") from error


def _json(value: dict[str, str | int]) -> bytes:
    return json.dumps(value).encode()


def _limit_resources() -> None:
    """So that a process whose server died ends too, and the machine outlives a bomb. Not everywhere possible."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("800")
    if sys.platform != "win32":
        import resource

        for kind, limit in ((resource.RLIMIT_AS, _MAX_MEMORY), (resource.RLIMIT_CPU, _MAX_CPU_SECONDS)):
            with contextlib.suppress(OSError, ValueError):
                resource.setrlimit(kind, (limit, limit))


if __name__ == "__main__":
    sys.exit(main())
