"""Checks the bucket that several servers share as the place of their images."""

import secrets

from outpaint_mcp.cli.findings import Finding, Level, problem
from outpaint_mcp.domain.errors import OutpaintError, ProviderUnavailableError
from outpaint_mcp.images.shelves import open_bucket


async def check_bucket(url: str | None, *, plain_http: bool) -> list[Finding]:
    """Whether everything that a server does with the bucket can be done: it is tried with a small object of its own."""
    if url is None:
        return []
    try:
        bucket = open_bucket(url, plain_http=plain_http)
        if bucket is not None:
            await bucket.try_out(f"doctor-{secrets.token_hex(8)}")
    except ProviderUnavailableError as error:
        advice = "Check AWS_ENDPOINT_URL, AWS_REGION and the credentials, and whether this machine may connect to it."
        return [problem("images", error.message, advice)]
    except OutpaintError as error:
        return [problem("images", error.message, error.advice)]
    return [Finding("images", Level.OK, f"{url} can be listed, and objects in it stored, read and deleted.")]
