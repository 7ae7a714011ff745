"""Images in a bucket that several machines share: the same door as a folder's, and what only a bucket can do wrong."""

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import anyio
import obstore
import pytest

from outpaint_mcp.domain.bucket_url import BucketUrl
from outpaint_mcp.domain.errors import ConfigurationError, InvalidImageError, ProviderUnavailableError
from outpaint_mcp.images.bucket import FRESH_SECONDS, Bucket
from outpaint_mcp.images.files import name_in
from outpaint_mcp.images.library import ImageLibrary
from outpaint_mcp.images.small_copy import PREVIEW
from outpaint_mcp.settings import plain_http_to_bucket, read_settings

from ..s3_server import S3Server
from .test_library import DATA_URI, PNG, SHA, file_of

NAME = f"{SHA}.png"
MakeLibrary = Callable[[str], ImageLibrary]


@pytest.fixture
def bucket_url(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> BucketUrl:
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return BucketUrl(s3_server.new_bucket(), "of/ours")


def open_bucket(url: BucketUrl, seconds: float = 10) -> Bucket:
    return Bucket(url, plain_http=True, request_seconds=seconds, least_seconds=3 * seconds)


@pytest.fixture
def machine(bucket_url: BucketUrl, tmp_path: Path) -> MakeLibrary:
    """The images of a machine of that name; all share one bucket."""
    return lambda name: ImageLibrary(tmp_path / name, roots=(), bucket=open_bucket(bucket_url))


@pytest.fixture(params=["folder", "bucket"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> MakeLibrary:
    """Two servers over one place of images: a folder of one machine, or a bucket with a machine for each."""
    if request.param == "folder":
        return lambda name: ImageLibrary(tmp_path / "data", roots=())
    machine: MakeLibrary = request.getfixturevalue("machine")
    return machine


# What holds for both


async def test_what_one_server_adds_another_reads(home: MakeLibrary) -> None:
    async with home("a") as one, home("b") as other:
        read = await one.read(DATA_URI)
        assert await other.load(SHA, "image/png") == PNG
        async with other.clean_copy(read) as (clean, _):
            assert (clean.width, clean.height, await anyio.Path(clean.path).exists()) == (24, 16, True)
        webp = file_of("WEBP")
        kept = (await one.keep_answer(webp, "")).stored
        assert kept is not None
        assert await anyio.Path(await other.result(kept.sha256, kept.mime_type)).read_bytes() == webp
        preview, _ = await (home("c")).shrink(kept.sha256, kept.mime_type, PREVIEW)
        assert preview.startswith(b"\xff\xd8")


async def test_an_answer_s_image_has_a_url_that_names_no_machine(home: MakeLibrary, tmp_path: Path) -> None:
    answer = await home("a").keep_answer(PNG, "")
    assert (name_in(answer.url), str(tmp_path) in repr(answer)) == (NAME, False)
    found = await home("b").own(answer.url)
    assert found is not None
    assert (found.read_bytes(), home("b").shown(answer.url)) == (PNG, found.as_uri())
    assert await home("b").own(found.as_uri()) is None


async def test_the_original_is_found_elsewhere_for_drawing_and_is_missed_where_it_is_gone(home: MakeLibrary) -> None:
    await home("a").read(DATA_URI)
    other = home("b")
    path = await other.at_hand(other.source_path(SHA, "image/png"))
    assert path.read_bytes() == PNG
    gone = await other.at_hand(other.source_path("0" * 64, "image/png"))
    assert (gone.exists(), await other.load("0" * 64, "image/png")) == (False, None)
    with pytest.raises(InvalidImageError):
        await other.shrink("0" * 64, "image/png", PREVIEW)
    with pytest.raises(InvalidImageError, match="no longer"):
        await other.keep_file(gone)


# What only a bucket does


async def test_the_folder_is_a_copy_that_may_be_lost(machine: MakeLibrary) -> None:
    one = machine("a")
    await one.keep_answer(PNG, "")
    path = await one.result(SHA, "image/png")
    assert path.exists()
    assert await one.prune(older_than_days=30, max_bytes=0) == 1
    assert not path.exists()
    assert await one.load(SHA, "image/png") == PNG
    assert path.exists()


async def test_many_who_want_an_image_at_once_get_it_whole(machine: MakeLibrary) -> None:
    await machine("a").keep_answer(PNG, "")
    other, found = machine("b"), []

    async def read() -> None:
        found.append(await other.load(SHA, "image/png"))

    async with anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(read)
    assert found == [PNG] * 8


@pytest.mark.parametrize("data", [b"", b"somebody else's", PNG[:-1] + b"!"])
async def test_another_object_under_an_image_s_name_is_not_used_and_is_put_right(
    data: bytes, machine: MakeLibrary, bucket_url: BucketUrl, s3_server: S3Server, tmp_path: Path
) -> None:
    s3_server.put(bucket_url.bucket, f"of/ours/{NAME}", data)
    one = machine("a")
    assert await one.load(SHA, "image/png") is None
    assert [file for file in (tmp_path / "a").rglob("*") if file.is_file()] == []
    await one.keep_answer(PNG, "")
    assert await machine("b").load(SHA, "image/png") == PNG


async def test_pruning_the_bucket_keeps_what_is_young_wanted_or_not_ours(
    bucket_url: BucketUrl, s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, now = open_bucket(bucket_url), time.time()
    (tmp_path / "a").write_bytes(PNG)
    wanted = f"{'1' * 64}.png"
    for name in (NAME, wanted):
        await bucket.put(name, tmp_path / "a")
    s3_server.put(bucket_url.bucket, "of/ours/report.pdf", b"other")
    s3_server.put(bucket_url.bucket, f"elsewhere/{NAME}", PNG)
    assert await bucket.prune(now + 10 * 86_400, ()) == 0, "it was put a moment ago"
    monkeypatch.setattr(time, "time", lambda: now + 10 * 86_400)
    assert await bucket.prune(now - 86_400, ()) == 0
    assert await bucket.prune(now + 86_400, {"1" * 64}) == 1
    left = {one["path"] for one in await obstore.list(bucket._store).collect_async()}
    assert left == {wanted, "report.pdf"}


async def test_what_is_taken_in_again_is_young_again(
    bucket_url: BucketUrl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, puts = open_bucket(bucket_url), []
    (tmp_path / "a").write_bytes(PNG)
    put_async = obstore.put_async

    async def counted(*args: object, **more: object) -> object:
        puts.append(args)
        return await put_async(*args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(obstore, "put_async", counted)
    for _ in range(3):
        await bucket.put(NAME, tmp_path / "a")
    assert len(puts) == 1, "within an hour it is not put again"
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 2 * FRESH_SECONDS)
    await bucket.put(NAME, tmp_path / "a")
    assert len(puts) == 2


# A bucket that is away


async def test_while_the_bucket_hangs_nothing_is_accepted_that_it_does_not_have_and_nothing_hangs(
    bucket_url: BucketUrl, s3_server: S3Server, tmp_path: Path
) -> None:
    one = ImageLibrary(tmp_path / "a", roots=(), bucket=open_bucket(bucket_url, 0.2))
    webp = file_of("WEBP")
    kept = (await one.keep_answer(webp, "")).stored
    assert kept is not None
    other = ImageLibrary(tmp_path / "b", roots=(), bucket=open_bucket(bucket_url, 0.2))
    with s3_server.hanging():
        with anyio.fail_after(10):
            with pytest.raises(ProviderUnavailableError) as caught:
                await one.read(DATA_URI)
            with pytest.raises(ProviderUnavailableError):
                await other.load(kept.sha256, kept.mime_type)
            # What is paid for is kept where it is, and said not to be safe yet.
            answer = await one.keep_answer(PNG, "")
        assert await one.load(kept.sha256, kept.mime_type) == webp, "what is here needs no bucket"
    assert (caught.value.retryable, "Nothing was ordered" in str(caught.value)) == (True, True)
    assert answer.stored is None
    assert list((tmp_path / "a" / "incoming").iterdir()) == []
    # It has it as soon as it is back, though the server was started anew meanwhile.
    again = ImageLibrary(tmp_path / "a", roots=(), bucket=open_bucket(bucket_url, 0.2))
    await again.put_owed()
    assert await other.load(SHA, "image/png") == PNG
    assert list((tmp_path / "a" / "owed").iterdir()) == []


async def test_what_was_drawn_while_the_bucket_was_away_is_in_it_as_soon_as_it_is_back(
    bucket_url: BucketUrl, s3_server: S3Server, tmp_path: Path
) -> None:
    one = ImageLibrary(tmp_path / "a", roots=(), bucket=open_bucket(bucket_url, 0.2))
    other = ImageLibrary(tmp_path / "b", roots=(), bucket=open_bucket(bucket_url, 0.2))
    drawn = tmp_path / "a" / "images" / NAME
    drawn.parent.mkdir(parents=True)
    drawn.write_bytes(PNG)
    await one.put_owed()
    with s3_server.hanging():
        with pytest.raises(ProviderUnavailableError):
            await one.keep_file(drawn)
        await one.put_owed()
    assert await other.load(SHA, "image/png") is None
    await one.put_owed()
    assert await other.load(SHA, "image/png") == PNG
    assert (await one.keep_file(drawn)).sha256 == SHA, "and its copying is tried again"


async def test_a_bucket_that_is_not_there_is_the_operator_s_to_mend(
    bucket_url: BucketUrl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = ImageLibrary(tmp_path, roots=(), bucket=open_bucket(replace(bucket_url, bucket="no-such-bucket")))
    with pytest.raises(ConfigurationError, match="does not exist"):
        await library.read(DATA_URI)
    nobody = BucketUrl("images")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    library = ImageLibrary(tmp_path, roots=(), bucket=open_bucket(nobody, 1))
    with pytest.raises(ProviderUnavailableError):
        await library.read(DATA_URI)


async def test_no_credential_is_in_what_is_logged_and_told(
    bucket_url: BucketUrl, s3_server: S3Server, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level("DEBUG")
    bucket = open_bucket(bucket_url, 0.2)
    (tmp_path / "a").write_bytes(PNG)
    with s3_server.hanging(), pytest.raises(ProviderUnavailableError) as caught:
        await bucket.put(NAME, tmp_path / "a")
    said = caplog.text + repr(caught.value.__dict__) + str(caught.value) + repr(bucket)
    for secret in ("hush-hush", "AKIDEXAMPLE", s3_server.url):
        assert secret not in said


# What it costs

TRANSFER = """
import anyio, resource, sys
from pathlib import Path
from outpaint_mcp.domain.bucket_url import BucketUrl
from outpaint_mcp.images.bucket import Bucket

async def main():
    bucket = Bucket(BucketUrl.parse(sys.argv[1]), plain_http=True, request_seconds=60, least_seconds=60)
    await bucket.put(sys.argv[3], Path(sys.argv[2]))  # something small, so that all is loaded
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    await bucket.put(sys.argv[5], Path(sys.argv[4]))
    assert await bucket.fetch(sys.argv[5], Path(sys.argv[6]))
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)

anyio.run(main)
"""


def test_an_image_of_40_mb_goes_there_and_back_in_pieces(bucket_url: BucketUrl, tmp_path: Path) -> None:
    large, small, back = (tmp_path / name for name in ("large", "small", "back"))
    large.write_bytes(os.urandom(40 << 20))
    small.write_bytes(b"small")
    names = [f"{hashlib.sha256(one.read_bytes()).hexdigest()}.png" for one in (small, large)]
    url = f"s3://{bucket_url.bucket}/{bucket_url.prefix}"
    command = [sys.executable, "-c", TRANSFER, url, str(small), names[0], str(large), names[1], str(back)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert back.read_bytes() == large.read_bytes()
    assert int(done.stdout) < 32, f"{done.stdout} MB more"


def test_without_a_bucket_obstore_is_not_imported() -> None:
    code = (
        "import sys, tempfile, anyio\n"
        "from pathlib import Path\n"
        "from outpaint_mcp.bootstrap import open_service\n"
        "from outpaint_mcp.settings import Settings\n"
        "async def main():\n"
        "    with tempfile.TemporaryDirectory() as folder:\n"
        "        async with open_service(Settings(data_dir=Path(folder))):\n"
        "            print([one for one in sys.modules if one.startswith(('obstore', 'outpaint_mcp.images.bucket'))])\n"
        "anyio.run(main)"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OUTPAINT_")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "[]"


# The setting


@pytest.mark.parametrize(
    "url",
    ["gs://bucket/x", "https://bucket.s3.amazonaws.com", "s3://", "s3:///x", "s3://b", "s3://key:secret@bucket/x",
     "s3://bucket/../x", "s3://bucket/x?region=y", "s3://bucket:9000/x", "bucket"],
)  # fmt: skip
def test_what_is_no_bucket_s_url_is_refused_without_being_repeated(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTPAINT_IMAGES_URL", url)
    with pytest.raises(ConfigurationError, match=r"OUTPAINT_IMAGES_URL must be .* s3://bucket/prefix\.") as caught:
        read_settings()
    assert "secret" not in str(caught.value)


def test_a_bucket_s_url_is_a_bucket_and_a_prefix() -> None:
    for text, bucket, prefix in (
        ("s3://images", "images", ""), ("s3://my.bucket/", "my.bucket", ""), ("s3://bucket/a/b_c/", "bucket", "a/b_c")
    ):  # fmt: skip
        assert BucketUrl.parse(text) == BucketUrl(bucket, prefix)


@pytest.mark.parametrize(("endpoint", "plain"), [("http://minio:9000", True), ("https://s3.example.com", False)])
def test_only_an_endpoint_that_says_http_is_reached_without_tls(
    endpoint: str, plain: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    assert not plain_http_to_bucket()
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    assert plain_http_to_bucket() is plain
