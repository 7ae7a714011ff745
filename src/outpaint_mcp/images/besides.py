"""What a file holds besides the pixels of one image that its owner may miss, in words: what it is, never a value."""

import contextlib
import re
from collections.abc import Mapping
from typing import Any, Final

from PIL import Image
from PIL.ExifTags import IFD, Base

from outpaint_mcp.images.containers import COPYRIGHT, DEPTH, FRAMES, OTHERS, TEXTS, Contents
from outpaint_mcp.images.formats import open_untrusted

_EXIF: Final[Mapping[str, tuple[int, ...]]] = {
    COPYRIGHT: (Base.Copyright,),
    "the author": (Base.Artist, Base.CameraOwnerName, Base.XPAuthor),
    "the camera's data": (
        Base.Make, Base.Model, Base.LensMake, Base.LensModel, Base.BodySerialNumber, Base.LensSerialNumber,
        Base.ExposureTime, Base.FNumber, Base.ISOSpeedRatings, Base.FocalLength, Base.Flash, Base.MakerNote,
    ),
    "the date": (Base.DateTime, Base.DateTimeOriginal, Base.DateTimeDigitized),
    "the position (GPS)": (IFD.GPSInfo,),
    "the description": (
        Base.ImageDescription, Base.UserComment, Base.XPTitle, Base.XPComment, Base.XPSubject, Base.XPKeywords,
    ),
    "the software": (Base.Software, Base.ProcessingSoftware),
}  # fmt: skip
_XMP, _IPTC = "XMP", "IPTC"
_SIGNS: Final[Mapping[str, tuple[bytes, ...]]] = {
    "the gain map (HDR)": (
        rb"ns\.adobe\.com/hdr-gain-map/",
        rb"ns\.apple\.com/HDRGainMap",
        rb"aux:hdrgainmap",
        rb"urn:iso:std:iso:ts:21496",
        rb"Semantic(=[\"']|>)GainMap",
        rb"ftyp.{8}(.{4}){0,8}tmap",
    ),
    "the depth map": (
        rb"ns\.google\.com/photos/1\.0/depthmap",
        rb"ns\.google\.com/photos/dd/1\.0",
        rb"ns\.apple\.com/(depthData|pixeldatainfo)",
        rb"aux:depthdata",
        rb"aux:disparity",
        rb"urn:mpeg:hevc:2015:auxid:2",
        rb"urn:mpeg:mpegB:cicp:systems:auxiliary:depth",
        rb"DualShot_DepthMap",
        rb"Semantic(=[\"']|>)Depth",
    ),
    "the portrait matte": (rb"aux:portraiteffectsmatte", rb"aux:semantic(hair|skin|teeth|glasses|sky)matte"),
    "the motion photo's video": (
        rb"MotionPhoto(=[\"']|>)1",
        rb"MicroVideo(=[\"']|>)1",
        rb"MotionPhoto_Data",
        rb"Semantic(=[\"']|>)MotionPhoto",
        rb"\0.{3}mpvd",
        rb"\xff\xd9.{0,200}?\0\0\0.ftyp(mp4|isom|iso\d|qt  |avc1|MSNV|3gp)",
    ),
    _XMP: (rb"<x:xmpmeta", rb"<rdf:RDF", rb"ns\.adobe\.com/xap/1\.0/", rb"XML:com\.adobe\.xmp\0"),
    _IPTC: (rb"8BIM\x04\x04",),
}
"""How each shows itself in a file, whatever the format."""
_RIGHTS: Final = (rb"dc:rights[=> ]", rb"xmpRights:")
_XMP_TAG, _IPTC_TAG, _BITS_TAG = 700, 33723, 258
_NOTHING: Final = (None, "", b"")


def besides(data: bytes, contents: Contents, image: Image.Image) -> tuple[str, ...]:
    """
    Args:
        data: the whole file.
        contents: of it.
        image: the decoded image.
    """
    found = set(contents.left_out)
    if (image.mode[0] in "IF" and image.mode != "I;8") or _is_deep(data, image):
        found.add(DEPTH)
    found |= {name for name, signs in _SIGNS.items() if _has(data, signs)}
    if _has(data, _RIGHTS):
        found.add(COPYRIGHT)
    if image.info.get("comment"):
        found.add(TEXTS)
    with contextlib.suppress(Exception):
        # Of another one, since looking for a second frame moves an image.
        if getattr(open_untrusted(contents.data), "is_animated", False):
            found.add(FRAMES)
    with contextlib.suppress(Exception):
        found |= _of_exif(image)
    pictures = tuple(_SIGNS)[:3]
    if found & set(pictures):
        # That is what the other images are.
        found.discard(OTHERS)
    order = dict.fromkeys((FRAMES, OTHERS, DEPTH, *pictures, *_EXIF, TEXTS, *_SIGNS))
    return tuple(name for name in order if name in found)


def _has(data: bytes, signs: tuple[bytes, ...]) -> bool:
    # One after the other: a pattern that begins with fixed bytes is found many times faster than one of several.
    return any(re.search(sign, data, re.DOTALL) for sign in signs)


def _of_exif(image: Image.Image) -> set[str]:
    exif = image.getexif()
    tags: dict[int, Any] = {**exif, **exif.get_ifd(IFD.Exif)}
    found = {name for name, ones in _EXIF.items() if any(tags.get(one) not in _NOTHING for one in ones)}
    return found | {name for name, tag in ((_XMP, _XMP_TAG), (_IPTC, _IPTC_TAG)) if tag in tags}


def _is_deep(data: bytes, image: Image.Image) -> bool:
    """Whether the file has more than 8 bits for each channel where the decoded image does not show it."""
    if image.format == "TIFF":
        bits = image.getexif().get(_BITS_TAG, 8)
        return any(one > 8 for one in (bits if isinstance(bits, tuple) else (bits,)))
    if image.format in ("AVIF", "HEIF"):
        sign = re.search(rb"pixi\0{4}[\1-\4](.)", data, re.DOTALL)
        return sign is not None and sign[1][0] > 8
    if image.format == "JPEG2000":
        sign = re.search(rb"\xff\x4f\xff\x51.{38}(.)", data, re.DOTALL)
        return sign is not None and (sign[1][0] & 0x7F) >= 8
    return False
