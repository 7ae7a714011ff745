"""Images through their public door: what is read, what is refused with which words, what is kept for how long."""

import base64
import hashlib
import io
import os
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import quote_from_bytes

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from outpaint_mcp.domain.errors import ConfigurationError, ForbiddenUrlError, InvalidImageError, OutpaintError
from outpaint_mcp.domain.order import InputImage
from outpaint_mcp.domain.task import StoredImage
from outpaint_mcp.images.library import ImageLibrary
from outpaint_mcp.images.size_limit import MAX_BYTES
from outpaint_mcp.images.small_copy import PREVIEW
from outpaint_mcp.images.sources import scheme_of

SECRET = "hush-hush"


def file_of(image_format: str = "PNG", size: tuple[int, int] = (24, 16)) -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize(size).convert("RGB").save(buffer, image_format)
    return buffer.getvalue()


def bomb(side: int) -> bytes:
    """A PNG that claims to be `side` x `side`, in a few hundred bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(9999))) + chunk(b"IEND", b"")
    )


PNG = file_of()
SHA = hashlib.sha256(PNG).hexdigest()
DATA_URI = "data:image/png;base64," + base64.b64encode(PNG).decode()


async def no_names(host: str, port: int) -> Sequence[str]:
    raise OSError(f"{host} is not looked up in tests")


def library_in(folder: Path, *, max_bytes: int = MAX_BYTES, roots: tuple[Path, ...] | None = None) -> ImageLibrary:
    return ImageLibrary(
        folder / "data",
        roots=(folder / "home",) if roots is None else roots,
        allow_private=True,
        resolver=no_names,
        max_bytes=max_bytes,
    )


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.fixture
def library(tmp_path: Path, home: Path) -> ImageLibrary:
    return library_in(tmp_path)


@contextmanager
def serving(bodies: Mapping[str, bytes]) -> Iterator[str]:
    """A web server on loopback; its base URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = bodies.get(self.path)
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Type", "text/html")  # a lie that must not matter
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


async def refusal(library: ImageLibrary, ref: str, *, paths_allowed: bool = True) -> OutpaintError:
    with pytest.raises(OutpaintError) as caught:
        await library.read(ref, paths_allowed=paths_allowed)
    return caught.value


def bytes_of(image: InputImage) -> bytes:
    return Path(image.path).read_bytes()


def files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


# What is read


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP", "GIF"])
async def test_a_file_is_read_by_its_content_whatever_its_name(
    image_format: str, library: ImageLibrary, home: Path, tmp_path: Path
) -> None:
    data = file_of(image_format)
    (home / "notes.txt").write_bytes(data)
    image = await library.read(str(home / "notes.txt"))
    assert (image.mime_type, image.width, image.height) == (f"image/{image_format.lower()}", 24, 16)
    assert image.sha256 == hashlib.sha256(data).hexdigest()
    assert image.url is None
    assert bytes_of(image) == data
    assert Path(image.path) == tmp_path / "data" / "sources" / f"{image.sha256}.{image_format.lower()}"
    assert files_in(tmp_path / "data") == [Path(image.path)]


async def test_a_url_is_read_by_its_content_whatever_its_header(library: ImageLibrary) -> None:
    with serving({"/a.gif?x=1": PNG}) as base:
        image = await library.read(f"  {base}/a.gif?x=1\n")
    assert (image.sha256, image.mime_type, image.url) == (SHA, "image/png", f"{base}/a.gif?x=1")
    assert bytes_of(image) == PNG


@pytest.mark.parametrize(
    "ref",
    [
        DATA_URI,
        DATA_URI.replace("data:image/png;base64", "DATA:;BASE64"),
        DATA_URI.replace("image/png", "text/plain;charset=utf-8"),
        DATA_URI.rstrip("="),
        DATA_URI[:60] + "\n  " + DATA_URI[60:],
        DATA_URI.replace("+", "%2B").replace("=", "%3D"),
        "data:image/png," + quote_from_bytes(PNG),
        "data:," + quote_from_bytes(PNG, safe=b""),
    ],
)
async def test_data_uris_are_read_in_every_spelling(ref: str, library: ImageLibrary) -> None:
    image = await library.read(ref, paths_allowed=False)
    assert (image.sha256, image.mime_type, image.url) == (SHA, "image/png", None)


async def test_paths_are_read_in_every_spelling(
    library: ImageLibrary, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``~`` and relative paths are about the environment and the working folder, which cannot be passed in."""
    file = home / "my image.png"
    file.write_bytes(PNG)
    (home / "link.png").symlink_to(file)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.chdir(home)
    for ref in (str(file), file.as_uri(), "file://localhost" + file.as_uri()[7:], "~/my image.png"):
        assert (await library.read(ref)).sha256 == SHA
    for ref in ("my image.png", "./my image.png", "../home/my image.png", str(home / "link.png")):
        assert (await library.read(ref)).sha256 == SHA


async def test_a_root_may_itself_be_a_link(tmp_path: Path, home: Path) -> None:
    (home / "a.png").write_bytes(PNG)
    (tmp_path / "alias").symlink_to(home)
    library = library_in(tmp_path, roots=(tmp_path / "alias",))
    assert (await library.read(str(tmp_path / "alias" / "a.png"))).sha256 == SHA
    assert (await library.read(str(home / "a.png"))).sha256 == SHA


async def test_an_image_read_twice_is_kept_once(library: ImageLibrary, tmp_path: Path) -> None:
    async with anyio.create_task_group() as tasks:
        for _ in range(6):
            tasks.start_soon(library.read, DATA_URI)
    assert len(files_in(tmp_path / "data")) == 1


# What is refused


async def test_a_path_outside_the_roots_is_refused_whether_it_is_there_or_not(
    library: ImageLibrary, home: Path, tmp_path: Path
) -> None:
    (tmp_path / "there.png").write_bytes(PNG)
    (home / "link.png").symlink_to(tmp_path / "there.png")
    (home / "dangling.png").symlink_to(tmp_path / "not-there.png")
    (home / "up").symlink_to(tmp_path)
    refs = ("../there.png", "../not-there.png", "link.png", "dangling.png", "up/there.png", "up/home/../there.png")
    errors = [await refusal(library, str(home / ref)) for ref in refs]
    assert {type(error) for error in errors} == {ForbiddenUrlError}
    assert len({str(error) for error in errors}) == 1
    assert "there" not in str(errors[0]).replace("OUTPAINT_FILE_ROOTS", "")


async def test_a_folder_beside_a_root_with_its_name_in_front_is_outside(tmp_path: Path, library: ImageLibrary) -> None:
    (tmp_path / "home-of-another").mkdir()
    (tmp_path / "home-of-another" / "a.png").write_bytes(PNG)
    assert isinstance(await refusal(library, str(tmp_path / "home-of-another" / "a.png")), ForbiddenUrlError)


async def test_without_roots_no_path_is_read(tmp_path: Path, home: Path) -> None:
    (home / "a.png").write_bytes(PNG)
    assert isinstance(await refusal(library_in(tmp_path, roots=()), str(home / "a.png")), ForbiddenUrlError)


@pytest.mark.parametrize("spelling", ["{}", "file://{}", "../home/a.png", "~/a.png", "a.png"])
async def test_where_paths_are_not_allowed_the_advice_is_a_url(
    spelling: str, library: ImageLibrary, home: Path
) -> None:
    (home / "a.png").write_bytes(PNG)
    error = await refusal(library, spelling.format(home / "a.png"), paths_allowed=False)
    assert isinstance(error, ForbiddenUrlError)
    assert "data: URI" in error.advice
    assert "URL" in error.advice


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no FIFOs in folders")
async def test_neither_folders_nor_pipes_nor_devices_are_opened(
    library: ImageLibrary, home: Path, tmp_path: Path
) -> None:
    os.mkfifo(home / "pipe.png")
    devices = library_in(tmp_path, roots=(Path("/dev"),))
    with anyio.fail_after(10):
        for one, ref in ((library, home / "pipe.png"), (library, home), (devices, Path("/dev/zero"))):
            error = await refusal(one, str(ref))
            assert isinstance(error, InvalidImageError)
            assert "plain file" in error.message


async def test_a_file_that_is_gone_is_an_invalid_image(library: ImageLibrary, home: Path) -> None:
    error = await refusal(library, str(home / "gone.png"))
    assert isinstance(error, InvalidImageError)
    assert "no file" in error.message


async def test_a_file_that_may_not_be_read_is_an_invalid_image(folder_of_an_ordinary_user: Path) -> None:
    path = folder_of_an_ordinary_user / "mine.png"
    path.write_bytes(PNG)
    path.chmod(0)
    library = ImageLibrary(folder_of_an_ordinary_user / "data", roots=(folder_of_an_ordinary_user,))
    error = await refusal(library, str(path))
    assert isinstance(error, InvalidImageError)
    assert "cannot be read" in error.message


@pytest.mark.parametrize(
    "data", [b"", b"text, by the name of an image\n" + SECRET.encode(), PNG[: len(PNG) // 2], bomb(60_000)]
)
async def test_what_is_not_a_complete_image_is_refused_and_not_kept(
    data: bytes, library: ImageLibrary, home: Path, tmp_path: Path
) -> None:
    (home / "a.png").write_bytes(data)
    with serving({"/a.png": data}) as base:
        errors = [
            await refusal(library, str(home / "a.png")),
            await refusal(library, f"{base}/a.png"),
            await refusal(library, "data:image/png;base64," + base64.b64encode(data).decode()),
        ]
        with pytest.raises(InvalidImageError):
            await library.keep(f"{base}/a.png")
    assert {type(error) for error in errors} == {InvalidImageError}
    assert len({str(error) for error in errors}) == 1
    assert SECRET not in str(errors[0])
    assert files_in(tmp_path / "data") == []


@pytest.mark.parametrize(
    ("ref", "error_class"),
    [
        ("", InvalidImageError),
        ("   ", InvalidImageError),
        ("file:", InvalidImageError),
        ("file://[nonsense", InvalidImageError),
        ("file://server/share/a.png", ForbiddenUrlError),
        ("ftp://example.org/a.png", ForbiddenUrlError),
        ("javascript:alert(1)", ForbiddenUrlError),
        ("s3://bucket/a.png", ForbiddenUrlError),
        ("data:image/png;base64", InvalidImageError),
        ("data:image/png;base64,", InvalidImageError),
        (f"data:image/png;base64,{SECRET}!", InvalidImageError),
        (f"data:image/png;base64,{SECRET}ä", InvalidImageError),
        ("data:,hello", InvalidImageError),
        ("http://169.254.169.254/latest", ForbiddenUrlError),
        (f"http://example.org/a?{SECRET}", InvalidImageError),
        (f"http://{SECRET}@example.org/a", ForbiddenUrlError),
        (base64.b64encode(bytes(9000)).decode(), InvalidImageError),
        ("a\0b", InvalidImageError),
        ("\udc80", ForbiddenUrlError),
        ("~nobody-of-that-name/a.png", ForbiddenUrlError),
    ],
)
async def test_what_is_no_reference_at_all_is_refused_with_a_sentence(
    ref: str, error_class: type[OutpaintError], library: ImageLibrary
) -> None:
    error = await refusal(library, ref)
    assert isinstance(error, error_class)
    assert SECRET not in str(error)
    assert str(error).isascii()
    assert len(str(error)) < 300


async def test_nothing_above_the_cap_is_taken_in_from_anywhere(tmp_path: Path, home: Path) -> None:
    library = library_in(tmp_path, max_bytes=len(PNG) - 1)
    (home / "a.png").write_bytes(PNG)
    with serving({"/a.png": PNG}) as base:
        refs = (str(home / "a.png"), f"{base}/a.png", DATA_URI, "data:," + quote_from_bytes(PNG), DATA_URI + "A" * 9000)
        for ref in refs:
            assert "larger than" in (await refusal(library, ref)).message
    assert files_in(tmp_path / "data") == []


async def test_a_file_that_claims_gigabytes_is_refused_before_it_is_read(library: ImageLibrary, home: Path) -> None:
    with (home / "hole.png").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    assert "larger than 50 MB" in (await refusal(library, str(home / "hole.png"))).message


async def test_a_decoder_that_dies_costs_only_the_image(tmp_path: Path) -> None:
    suicide = (sys.executable, "-c", "import os; os.abort()")
    babbling = (sys.executable, "-c", "print('what?'); input()")
    for decoder in (suicide, babbling, (sys.executable, "-c", "raise SystemExit(1)")):
        library = ImageLibrary(tmp_path / "data", roots=(), decoder=decoder)
        error = await refusal(library, DATA_URI)
        assert isinstance(error, InvalidImageError)
        assert "decoder" in error.message
    assert files_in(tmp_path / "data") == []


def noting(pids: Path, *, images: int | None = None) -> tuple[str, ...]:
    """The decoder, which writes down its process id; it ends after so many images."""
    note = f"open({str(pids)!r}, 'a').write(f'{{os.getpid()}}\\n')"
    code = f"import os; from outpaint_mcp.images import decode_worker as p; {note}"
    if images is not None:
        code += f"; p.MAX_IMAGES = {images}"
    return (sys.executable, "-c", f"{code}; p.main()")


async def test_a_decoder_is_kept_for_the_next_image_until_one_is_refused(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    async with ImageLibrary(tmp_path / "data", roots=(), decoders=1, decoder=noting(pids)) as library:
        for _ in range(3):
            assert (await library.read(DATA_URI)).sha256 == SHA
        assert len(pids.read_text().split()) == 1
        assert isinstance(await refusal(library, "data:image/png;base64,aGVsbG8="), InvalidImageError)
        await library.read(DATA_URI)
        assert len(set(pids.read_text().split())) == 2
    for pid in map(int, pids.read_text().split()):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_a_decoder_that_has_ended_meanwhile_is_replaced(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    async with ImageLibrary(tmp_path / "data", roots=(), decoders=1, decoder=noting(pids, images=1)) as library:
        for _ in range(3):
            assert (await library.read(DATA_URI)).sha256 == SHA
    assert len(pids.read_text().split()) == 3


async def test_a_decoder_that_takes_for_ever_is_ended(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    forever = f"import os, time; open({str(told)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    library = ImageLibrary(tmp_path / "data", roots=(), decoder=(sys.executable, "-c", forever), decode_timeout=1.0)
    assert "longer than 1 s" in (await refusal(library, DATA_URI)).message
    with pytest.raises(ProcessLookupError):
        os.kill(int(told.read_text()), 0)


async def test_a_cancelled_read_leaves_nothing_behind(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    forever = f"import os, time; open({str(told)!r}, 'w').write(str(os.getpid()) + '.'); time.sleep(600)"
    library = ImageLibrary(tmp_path / "data", roots=(), decoder=(sys.executable, "-c", forever))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(library.read, DATA_URI)
        with anyio.fail_after(20):
            while not (told.exists() and told.read_text().endswith(".")):  # noqa: ASYNC110 (another process's doing)
                await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
    assert files_in(tmp_path / "data") == []
    with pytest.raises(ProcessLookupError):
        os.kill(int(told.read_text()[:-1]), 0)


async def test_a_folder_of_the_working_directory_cannot_stand_in_for_the_decoder(
    library: ImageLibrary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The working folder is often a stranger's project; it cannot be passed in."""
    (tmp_path / "project").mkdir()
    for name in ("PIL", "json", "outpaint_mcp"):
        (tmp_path / "project" / f"{name}.py").write_text("raise SystemExit('a module of the project was run')")
    monkeypatch.chdir(tmp_path / "project")
    assert (await library.read(DATA_URI)).sha256 == SHA


async def test_our_own_folder_that_cannot_be_written_is_the_operators_matter(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where the folder should be")
    with pytest.raises(ConfigurationError):
        await ImageLibrary(tmp_path / "data", roots=()).read(DATA_URI)


async def test_a_decoder_that_cannot_be_started_is_the_operators_matter(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        await ImageLibrary(tmp_path / "data", roots=(), decoder=(str(tmp_path / "not-there"),)).read(DATA_URI)


# What is kept


async def test_a_result_is_fetched_checked_and_kept(library: ImageLibrary, tmp_path: Path) -> None:
    webp = file_of("WEBP", (40, 30))
    sha256 = hashlib.sha256(webp).hexdigest()
    path = tmp_path / "data" / "images" / f"{sha256}.webp"
    with serving({"/r": webp}) as base:
        kept = await library.keep(f"{base}/r")
    assert kept == StoredImage(sha256, "image/webp", 40, 30, len(webp))
    assert await library.result(sha256, "image/webp") == path
    assert await library.load(sha256, "image/webp") == webp
    preview, _ = await library.shrink(sha256, "image/webp", PREVIEW)
    with Image.open(io.BytesIO(preview)) as image:
        assert (image.format, image.size) == ("JPEG", (40, 30))


async def test_results_come_over_http_only(library: ImageLibrary, home: Path) -> None:
    (home / "a.png").write_bytes(PNG)
    for url in ((home / "a.png").as_uri(), str(home / "a.png"), DATA_URI, "http://169.254.169.254/"):
        with pytest.raises((ForbiddenUrlError, InvalidImageError)):
            await library.keep(url)


async def test_the_same_result_kept_at_once_by_two_is_one_whole_file(library: ImageLibrary, tmp_path: Path) -> None:
    other = library_in(tmp_path)
    with serving({"/r": PNG}) as base:
        async with anyio.create_task_group() as tasks:
            for one in (library, other) * 4:
                tasks.start_soon(one.keep, f"{base}/r")
    assert files_in(tmp_path / "data") == [await library.result(SHA, "image/png")]
    assert await library.load(SHA, "image/png") == PNG


async def test_an_image_drawn_here_is_adopted_wherever_it_lies(library: ImageLibrary, tmp_path: Path) -> None:
    drawn = tmp_path / "drawn.png"
    drawn.write_bytes(PNG)
    kept = await library.keep_file(drawn)
    assert (kept.sha256, kept.mime_type, kept.width, kept.height, kept.size) == (SHA, "image/png", 24, 16, len(PNG))
    path = await library.result(kept.sha256, kept.mime_type)
    assert await library.keep_file(path) == kept
    assert drawn.read_bytes() == path.read_bytes() == PNG
    assert files_in(tmp_path / "data") == [path]


async def test_an_image_that_a_vendor_answered_with_is_checked_and_kept(library: ImageLibrary, tmp_path: Path) -> None:
    answer = await library.keep_answer(PNG, "")
    assert answer.stored == StoredImage(SHA, "image/png", 24, 16, len(PNG))
    assert (answer.mime_type, answer.width, answer.height) == ("image/png", 24, 16)
    assert files_in(tmp_path / "data") == [await library.result(SHA, "image/png")]
    with pytest.raises(InvalidImageError):
        await library.keep_answer(b"not an image", "")


async def test_an_input_image_is_found_where_it_was_read_or_kept(library: ImageLibrary) -> None:
    await library.keep_answer(PNG, "")
    assert library.source_path(SHA, "image/png") == await library.result(SHA, "image/png")
    read = await library.read(DATA_URI)
    assert library.source_path(SHA, "image/png") == Path(read.path)


async def test_an_image_drawn_here_may_be_larger_than_one_taken_in(library: ImageLibrary, tmp_path: Path) -> None:
    Image.new("1", (9000, 8000)).save(tmp_path / "large.png")
    kept = await library.keep_file(tmp_path / "large.png")
    assert (kept.width, kept.height) == (9000, 8000)


@pytest.mark.parametrize("data", [None, b"", b"text"])
async def test_what_is_no_image_is_not_adopted(data: bytes | None, library: ImageLibrary, tmp_path: Path) -> None:
    if data is not None:
        (tmp_path / "drawn.png").write_bytes(data)
    with pytest.raises(InvalidImageError):
        await library.keep_file(tmp_path / "drawn.png")
    assert files_in(tmp_path / "data") == []


async def test_a_source_can_be_loaded_too_and_what_is_not_here_is_none(library: ImageLibrary) -> None:
    await library.read(DATA_URI)
    assert await library.load(SHA, "image/png") == PNG
    assert await library.load("0" * 64, "image/png") is None
    with pytest.raises(InvalidImageError):
        await library.shrink("0" * 64, "image/png", PREVIEW)


@pytest.mark.parametrize(("sha256", "mime_type"), [("../" + SHA, "image/png"), ("", "image/png"), (SHA, "text/plain")])
async def test_a_name_cannot_lead_out_of_the_folder(sha256: str, mime_type: str, library: ImageLibrary) -> None:
    with pytest.raises(ValueError, match="cannot be an image of ours"):
        await library.result(sha256, mime_type)
    with pytest.raises(ValueError, match="cannot be an image of ours"):
        library.source_path(sha256, mime_type)


async def test_pruning_deletes_the_old_then_the_oldest_and_never_what_is_to_stay(
    library: ImageLibrary, tmp_path: Path
) -> None:
    kept = []
    for width in range(20, 26):
        data = base64.b64encode(file_of(size=(width, 8))).decode()
        kept.append(await library.read(f"data:;base64,{data}"))
    now = time.time()
    for age, image in enumerate(reversed(kept)):  # the last is the youngest, each a day older than the next
        os.utime(image.path, (now, now - 86_400 * age - 60))
    size = sum(len(bytes_of(image)) for image in kept)
    left = [Path(image.path) for image in kept]

    assert await library.prune(older_than_days=30, max_bytes=size) == 0
    assert await library.prune(older_than_days=4.5, max_bytes=size, keep={kept[0].sha256}) == 0
    assert await library.prune(older_than_days=4.5, max_bytes=size) == 1
    assert [path.exists() for path in left] == [False, True, True, True, True, True]
    room = sum(left[index].stat().st_size for index in (1, 4, 5))
    assert await library.prune(older_than_days=30, max_bytes=room, keep={kept[1].sha256}) == 2
    assert [path.exists() for path in left] == [False, True, False, False, True, True]
    assert await library.prune(older_than_days=30, max_bytes=0) == 3
    assert await library.prune(older_than_days=30, max_bytes=0) == 0


async def test_taking_an_image_in_again_makes_it_young(library: ImageLibrary) -> None:
    image = await library.read(DATA_URI)
    os.utime(image.path, (0, 0))
    await library.read(DATA_URI)
    assert await library.prune(older_than_days=1, max_bytes=MAX_BYTES) == 0


async def test_pruning_clears_what_a_killed_process_left(library: ImageLibrary, tmp_path: Path) -> None:
    await library.read(DATA_URI)
    incoming = tmp_path / "data" / "incoming"
    fresh, stale = incoming / ("f" * 32), incoming / ("5" * 32)
    for part in (fresh, stale):
        part.write_bytes(b"half")
    os.utime(stale, (0, 0))
    assert await library.prune(older_than_days=1, max_bytes=MAX_BYTES) == 1
    assert fresh.exists()


async def test_pruning_leaves_files_that_are_not_ours(library: ImageLibrary, tmp_path: Path) -> None:
    await library.read(DATA_URI)
    others = [tmp_path / "data" / folder / "holiday.png" for folder in ("sources", "incoming")]
    for other in others:
        other.write_bytes(b"somebody's")
        os.utime(other, (0, 0))
    assert await library.prune(older_than_days=1, max_bytes=0) == 1
    assert all(other.exists() for other in others)


async def test_pruning_where_nothing_was_kept_yet_is_harmless(tmp_path: Path) -> None:
    async with library_in(tmp_path) as library:
        assert await library.prune(older_than_days=1, max_bytes=0) == 0


# What holds for everything

REFS = st.one_of(
    st.text(st.characters(), max_size=60),
    st.text(st.characters(), max_size=60).map("data:".__add__),
    st.binary(max_size=200).map(lambda data: "data:;base64," + base64.b64encode(data).decode()),
    st.text(st.characters(), max_size=60).map("file://".__add__),
    st.tuples(
        st.sampled_from(["http", "https", "HTTP"]),
        st.sampled_from(
            ["host.example", "a..b", "[::]", "169.254.1.1", "0x7f.1", "u:p@h", "", "[", "*", "\u2460", "h:-1"]
        ),
        st.text(st.characters(), max_size=20),
    ).map(lambda parts: f"{parts[0]}://{parts[1]}/{parts[2]}"),
)


@settings(max_examples=80, deadline=None)
@given(ref=REFS)
def test_no_reference_whatsoever_raises_anything_but_our_errors(
    ref: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    library = library_in(tmp_path_factory.getbasetemp())
    with pytest.raises(OutpaintError) as caught:
        anyio.run(library.read, ref)
    assert str(caught.value).isascii()


@given(st.text(alphabet="abc:/~.\\", max_size=12))
def test_only_what_begins_with_a_known_scheme_or_has_two_slashes_is_a_url(ref: str) -> None:
    assert scheme_of(ref) is None or "://" in ref


def test_the_server_process_imports_no_decoder() -> None:
    code = "import sys, outpaint_mcp.images.library; print([m for m in ('PIL', 'numpy') if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert shown.stdout.strip() == "[]"
