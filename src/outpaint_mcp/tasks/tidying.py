"""Deletes what is older than the operator keeps it: images, providers' files and final tasks."""

from collections.abc import Iterable

from outpaint_mcp.images.library import ImageLibrary
from outpaint_mcp.providers.base import Provider
from outpaint_mcp.storage.store import Store
from outpaint_mcp.tasks.options import ServiceOptions


async def tidy(
    store: Store,
    images: ImageLibrary,
    providers: Iterable[Provider],
    options: ServiceOptions,
    *,
    now: float,
    shared: bool,
) -> None:
    """Delete what is too old or too much; `now` in seconds since the epoch.

    `shared`: also final tasks, and images in the bucket. They are all machines', and one of them is enough for it.

    Raises:
        ConfigurationError: the store cannot be used.
        OSError: a file cannot be deleted.
    """
    await images.prune(
        older_than_days=options.keep_images_days,
        max_bytes=options.keep_images_bytes,
        keep=await store.open_sources(),
        shared=shared,
    )
    for provider in providers:
        await provider.tidy()
    if shared and options.keep_tasks_days:
        await store.prune(finished_before=now - 86_400 * options.keep_tasks_days)
