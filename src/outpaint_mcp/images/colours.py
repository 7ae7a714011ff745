"""The colour tags of a PNG as an ICC profile, for files that hold nothing else to say how their colours are meant."""

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Final

from outpaint_mcp.images.containers import PNG_START, chunks

Matrix = Sequence[Sequence[float]]
Chromaticities = tuple[float, ...]
"""x and y of white, red, green and blue, as in a cHRM chunk."""

_D65, _C = (0.3127, 0.3290), (0.310, 0.316)
_BT709: Final = (*_D65, 0.640, 0.330, 0.300, 0.600, 0.150, 0.060)
_SMPTE: Final = (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070)
_PRIMARIES: Final[dict[int, Chromaticities]] = {
    1: _BT709,
    4: (*_C, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    5: (*_D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: _SMPTE,
    7: _SMPTE,
    8: (*_C, 0.681, 0.319, 0.243, 0.692, 0.145, 0.049),
    9: (*_D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    11: (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    12: (*_D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    22: (*_D65, 0.630, 0.340, 0.295, 0.605, 0.155, 0.077),
}
"""By the number in a cICP chunk (ITU-T H.273, table 2)."""
_SRGB: Final = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
_BT709_CURVE: Final = (1 / 0.45, 1 / 1.099, 0.099 / 1.099, 1 / 4.5, 0.081)
_CURVES: Final[dict[int, tuple[float, ...]]] = {
    1: _BT709_CURVE,
    4: (2.2,),
    5: (2.8,),
    6: _BT709_CURVE,
    7: (1 / 0.45, 1 / 1.1115, 0.1115 / 1.1115, 1 / 4.0, 0.0912),
    8: (1.0,),
    13: _SRGB,
    14: _BT709_CURVE,
    15: _BT709_CURVE,
}
"""From a value to light, by the number in a cICP chunk (table 3), as an ICC parametric curve: one exponent, or
g, a, b, c, d. Those of HDR are no such curves."""
_GAMMA_OF_SRGB: Final = 0.45455
"""What a PNG in sRGB gives as its gAMA."""
_BRADFORD: Final = ((0.8951, 0.2664, -0.1614), (-0.7502, 1.7135, 0.0367), (0.0389, -0.0685, 1.0296))
_D50: Final = (0.9642, 1.0, 0.8249)


@dataclass(frozen=True, slots=True)
class Colours:
    """How an image's numbers are meant, where that is not as in sRGB; `curve` is None where no profile can say it."""

    chromaticities: Chromaticities
    curve: tuple[float, ...] | None

    def profile(self, *, grey: bool) -> bytes | None:
        """The ICC profile (version 4.3) that says the same; None if none can."""
        return None if self.curve is None else _profile(self.chromaticities, self.curve, grey)


def colours_of(tags: bytes) -> Colours | None:
    """What the chunks of a PNG say of its colours; None if that is sRGB, or nothing."""
    found = {kind: tags[start - len(PNG_START) : end - len(PNG_START)] for kind, start, end in chunks(PNG_START + tags)}
    if (code_points := found.get(b"cICP")) is not None:
        primaries, transfer, matrix, full = code_points
        colours = Colours(_PRIMARIES.get(primaries, _BT709), _CURVES.get(transfer))
        if primaries not in _PRIMARIES or matrix != 0 or full != 1:
            colours = Colours(_BT709, None)
    elif b"sRGB" in found:
        return None
    else:
        gamma = int.from_bytes(found.get(b"gAMA", b""), "big") / 100_000
        like_srgb = gamma == 0 or abs(gamma - _GAMMA_OF_SRGB) < 0.001
        values = [value / 100_000 for value in struct.unpack(">8I", found.get(b"cHRM", bytes(32)))]
        colours = Colours(tuple(values) if _is_possible(values) else _BT709, _SRGB if like_srgb else (1 / gamma,))
    is_srgb = colours.curve == _SRGB and all(
        abs(one - other) < 0.002 for one, other in zip(colours.chromaticities, _BT709, strict=True)
    )
    return None if is_srgb else colours


def _is_possible(values: Sequence[float]) -> bool:
    """Whether they are chromaticities of a white within a triangle."""
    if not all(0 <= x <= 1 and 0 < y <= 1 for x, y in zip(values[::2], values[1::2], strict=True)):
        return False
    try:
        return min(_times(_inverse(_columns(values[2:])), _xyz(*values[:2]))) > 0
    except ZeroDivisionError:
        return False


def _profile(chromaticities: Chromaticities, curve: tuple[float, ...], grey: bool) -> bytes:
    white = _xyz(*chromaticities[:2])
    adaptation = _adaptation(white)
    kind = 0 if len(curve) == 1 else 3
    written = b"para" + struct.pack(">4xH2x", kind) + _fixed(curve)
    tags: dict[bytes, bytes] = {
        b"desc": _text("Colours of the source image"),
        b"cprt": _text("No copyright"),
        b"wtpt": b"XYZ " + bytes(4) + _fixed(_D50),
        b"chad": b"sf32" + bytes(4) + _fixed(value for row in adaptation for value in row),
    }
    if grey:
        tags[b"kTRC"] = written
    else:
        columns = _columns(chromaticities[2:])
        scale = _times(_inverse(columns), white)
        primaries = _product(adaptation, [[a * b for a, b in zip(row, scale, strict=True)] for row in columns])
        for place, name in enumerate((b"r", b"g", b"b")):
            tags[name + b"XYZ"] = b"XYZ " + bytes(4) + _fixed(row[place] for row in primaries)
            tags[name + b"TRC"] = written
    return _assembled(tags, b"GRAY" if grey else b"RGB ")


def _assembled(tags: dict[bytes, bytes], space: bytes) -> bytes:
    at = 128 + 4 + 12 * len(tags)
    table, body, places = b"", b"", dict[bytes, int]()
    for name, content in tags.items():
        if content not in places:
            places[content] = at + len(body)
            body += content + bytes(-len(content) % 4)
        table += name + struct.pack(">II", places[content], len(content))
    size = at + len(body)
    header = struct.pack(">I4xI4s4s4s", size, 0x0430_0000, b"mntr", space, b"XYZ ")
    header += struct.pack(">6H4s", 2026, 1, 1, 0, 0, 0, b"acsp") + bytes(28) + _fixed(_D50)
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def _text(text: str) -> bytes:
    encoded = text.encode("utf-16-be")
    return b"mluc" + struct.pack(">4xII2s2sII", 1, 12, b"en", b"US", len(encoded), 28) + encoded


def _fixed(values: Iterable[float]) -> bytes:
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def _xyz(x: float, y: float) -> tuple[float, float, float]:
    return x / y, 1.0, (1 - x - y) / y


def _columns(primaries: Sequence[float]) -> Matrix:
    """The XYZ of red, green and blue as the columns of a matrix, from their x and y."""
    return list(zip(*(_xyz(*primaries[place : place + 2]) for place in (0, 2, 4)), strict=True))


def _adaptation(white: Sequence[float]) -> Matrix:
    """From XYZ under this white to XYZ under D50 (Bradford)."""
    seen, wanted = _times(_BRADFORD, white), _times(_BRADFORD, _D50)
    scale = [[wanted[row] / seen[row] if row == column else 0.0 for column in range(3)] for row in range(3)]
    products: Callable[[Matrix, Matrix], Matrix] = _product
    return reduce(products, (_inverse(_BRADFORD), scale, _BRADFORD))


def _times(matrix: Matrix, vector: Sequence[float]) -> list[float]:
    return [sum(a * b for a, b in zip(row, vector, strict=True)) for row in matrix]


def _product(one: Matrix, other: Matrix) -> Matrix:
    columns = [_times(one, column) for column in zip(*other, strict=True)]
    return list(zip(*columns, strict=True))


def _inverse(matrix: Matrix) -> Matrix:
    a, b, c = matrix
    crossed = _cross(b, c), _cross(c, a), _cross(a, b)
    determinant = sum(x * y for x, y in zip(a, crossed[0], strict=True))
    return [[column[row] / determinant for column in crossed] for row in range(3)]


def _cross(a: Sequence[float], b: Sequence[float]) -> list[float]:
    return [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
