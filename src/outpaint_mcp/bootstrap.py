"""Builds the program from its settings: the service with its providers, the MCP server, and what serves it over HTTP.

What a server needs only after it has answered `tools/list` is imported when it is built, not before.
"""

import contextlib
import functools
import logging
import os
import secrets
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio.to_thread

from outpaint_mcp.domain.errors import ConfigurationError
from outpaint_mcp.domain.front import Front

if TYPE_CHECKING:
    from mcp.server import Server

    from outpaint_mcp.domain.events import Observer, TaskEvents
    from outpaint_mcp.images.library import ImageLibrary
    from outpaint_mcp.providers.base import Provider
    from outpaint_mcp.providers.http_client import HttpClient
    from outpaint_mcp.settings import Settings, VendorSettings
    from outpaint_mcp.tasks.scheduler import Scheduler
    from outpaint_mcp.tasks.service import Service
    from outpaint_mcp.web.app import HttpApp


@dataclass(frozen=True, slots=True)
class Work:
    """What a worker does: whether it polls, and how many jobs at once."""

    polls: bool
    at_once: int


def configured(**given: Any) -> "Settings":
    """The settings, with logging set up as they say.

    Args:
        given: what was given on the command line; it goes before the environment.

    Raises:
        ConfigurationError: one of them cannot be read.
    """
    from outpaint_mcp.settings import read_settings

    settings = read_settings(**given)
    form = "%(levelname)s %(name)s: %(message)s"
    logging.basicConfig(level=settings.log_level, stream=sys.stderr, format=form, force=True)
    # They log whole URLs, headers and messages, in which secrets may stand.
    for name in ("httpcore2", "httpx2"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Says each second that a database is away, which the scheduler says too.
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
    logging.getLogger("procrastinate").setLevel(logging.ERROR)
    for name in ("mcp", "sse_starlette"):
        logging.getLogger(name).setLevel(max(logging.INFO, logging.getLogger().level))
    return settings


def build_providers(
    settings: "Settings",
    client: "HttpClient",
    images: "ImageLibrary",
    front: Front,
    keys: Mapping[str, str],
    at_once: int | None,
) -> tuple[dict[str, "Provider"], dict[str, "VendorSettings"]]:
    """Every provider that is installed, in the order in which `auto` tries them, and the settings of each.

    `keys`: as for `build_service`.
    `at_once`: how many images are drawn here at the same time; by default as many as there are cores.
    """
    from outpaint_mcp.providers.canvases import Canvases
    from outpaint_mcp.providers.http_provider import HttpProvider
    from outpaint_mcp.providers.local.provider import LocalProvider
    from outpaint_mcp.providers.local.workers import Workers
    from outpaint_mcp.providers.registry import provider_classes
    from outpaint_mcp.providers.self_hosted import Tools, build_vendor
    from outpaint_mcp.settings import child_environment, read_vendor_settings, reveal

    classes = provider_classes()
    wanted = settings.providers or ()
    unknown = [name for name in wanted if name not in classes]
    if unknown:
        raise ConfigurationError(
            f"OUTPAINT_PROVIDERS names {', '.join(unknown)}, which is not installed.",
            f"Name only providers that are: {', '.join(classes)}.",
        )
    # What decodes strangers' bytes gets no keys.
    model, keyless = settings.inpaint_model, child_environment()
    waiting = settings.max_waits if front.is_shared else None
    workers = Workers(at_once, shared=front.is_shared, max_waiting=waiting, environment=keyless, inpaint_model=model)
    canvases = Canvases(settings.data_dir, workers, at_hand=images.at_hand)
    built: dict[str, Provider] = {}
    vendors: dict[str, VendorSettings] = {}
    for name in dict.fromkeys([*wanted, *classes]):
        found = classes[name]
        key_env = found.key_env if issubclass(found, HttpProvider) else None
        vendors[name] = vendor = read_vendor_settings(name, key_env, keys)
        if issubclass(found, LocalProvider):
            built[name] = found(settings.data_dir, workers, at_hand=images.at_hand)
        elif issubclass(found, HttpProvider):
            tools = Tools(client, images.keep_answer, canvases)
            built[name] = build_vendor(
                found, tools, key=reveal(vendor.api_key), base_url=vendor.base_url, workflow=vendor.workflow
            )
        else:
            built[name] = found()
    return built, vendors


@contextlib.asynccontextmanager
async def open_service(
    settings: "Settings | None" = None,
    *,
    front: Front = Front.STDIO,
    observer: "Observer | None" = None,
    events: "TaskEvents | None" = None,
    public_url: str | None = None,
    images_url: str | None = None,
    work: Work | None = None,
) -> AsyncIterator["Service"]:
    """The use cases, with open tasks advanced when they are due, until the block ends.

    Args:
        settings: by default the environment's.
        front: where requests come from.
        observer: told of requests and delays, for metrics.
        events: where every change of a task is published.
        public_url: where vendors can call back, for whoever hands callbacks to `Service.handle_callback`.
        images_url: where clients reach ``/images``, for whoever serves what `Service.linked_image` finds.
        work: what it does, if it is a worker.

    Raises:
        ConfigurationError: a setting is wrong, or the data folder cannot be used.
    """
    from outpaint_mcp.providers.registry import key_variables
    from outpaint_mcp.storage.data_folder import close_to_others
    from outpaint_mcp.storage.system_keyring import stored_keys

    settings = _given(settings)
    await anyio.to_thread.run_sync(close_to_others, settings.data_dir)
    wanted = key_variables().values() if settings.keyring else ()
    keys = await anyio.to_thread.run_sync(stored_keys, wanted, abandon_on_cancel=True) if wanted else {}
    service, scheduler, client = build_service(
        settings,
        front=front,
        observer=observer,
        events=events,
        public_url=public_url,
        images_url=images_url,
        keys=keys,
        work=work,
    )
    async with client, service.running(), scheduler.running():
        yield service


def create_server(settings: "Settings | None" = None, *, front: Front = Front.STDIO) -> "Server[None]":
    """An MCP server, to be run on any of the SDK's transports or mounted in an application.

    Its service is opened with the first call, inside the server's lifespan. All requests are one client's, ``local``.

    Args:
        settings: by default the environment's, read when the service is opened.
        front: where requests come from: `Front.HTTP` if others can reach the server.
    """
    from outpaint_mcp.domain.events import TaskEvents
    from outpaint_mcp.server.app import build_server
    from outpaint_mcp.server.lazy_service import LazyService
    from outpaint_mcp.server.tools import ResultShape

    events = TaskEvents()
    read = functools.cache(lambda: _given(settings))
    lazy = LazyService(lambda: open_service(read(), front=front, events=events))
    return build_server(
        lazy,
        lambda: ResultShape(read().resource_links, read().preview),
        events=events,
        paths=front is not Front.HTTP,
    )


def _given(settings: "Settings | None") -> "Settings":
    from outpaint_mcp.settings import read_settings

    return read_settings() if settings is None else settings


def build_service(
    settings: "Settings",
    *,
    front: Front = Front.STDIO,
    observer: "Observer | None" = None,
    events: "TaskEvents | None" = None,
    public_url: str | None = None,
    images_url: str | None = None,
    keys: Mapping[str, str] | None = None,
    work: Work | None = None,
) -> tuple["Service", "Scheduler", "HttpClient"]:
    """A service, its scheduler and its HTTP client, none of them running. For the arguments see `open_service`.

    `keys`: those of providers that lie elsewhere than in the environment, by environment variable.
    `work`: what it does, if it is a worker.
    """
    from outpaint_mcp.domain.daily_limits import DailyLimits
    from outpaint_mcp.images.library import ImageLibrary
    from outpaint_mcp.images.shelves import open_bucket
    from outpaint_mcp.providers.http_client import HttpClient
    from outpaint_mcp.settings import child_environment, plain_http_to_bucket, reveal
    from outpaint_mcp.storage.data_folder import IMAGE_LINKS_KEY, STORE
    from outpaint_mcp.storage.key_file import read_key
    from outpaint_mcp.storage.opening import open_store
    from outpaint_mcp.tasks.image_links import ImageLinks, shared_keys
    from outpaint_mcp.tasks.options import ServiceOptions
    from outpaint_mcp.tasks.scheduler import Scheduler
    from outpaint_mcp.tasks.service import Service

    if settings.workers and (settings.database_url is None or settings.images_url is None):
        raise ConfigurationError(
            "Workers share a database and a bucket with their servers, and one of them is not set.",
            "Set OUTPAINT_DATABASE_URL and OUTPAINT_IMAGES_URL, or unset OUTPAINT_WORKERS.",
        )
    max_waiting = settings.max_waits if front.is_shared else None
    client = HttpClient(observer=observer)
    images = ImageLibrary(
        settings.data_dir,
        roots=_file_roots(settings, front),
        allow_private=settings.allow_private_urls,
        shared=front.is_shared,
        max_waiting=max_waiting,
        environment=child_environment(),
        bucket=open_bucket(settings.images_url, plain_http=plain_http_to_bucket()),
    )
    at_once = work.at_once if work else None
    providers, vendors = build_providers(settings, client, images, front, keys or {}, at_once)
    seal_key = reveal(settings.seal_key)
    store, clock = open_store(
        settings.data_dir / STORE,
        f"{os.getpid()}-{secrets.token_hex(8)}",
        database_url=reveal(settings.database_url),
        seal_key=seal_key,
    )
    links_key = settings.data_dir / IMAGE_LINKS_KEY
    link_keys = shared_keys(seal_key) if seal_key else (read_key(links_key),) if images_url else ()
    service = Service(
        store=store,
        images=images,
        providers=providers,
        options=ServiceOptions(
            auto=settings.providers or tuple(providers),
            may_leave=bool(settings.providers),
            import_tasks=front is not Front.HTTP if settings.adopt is None else settings.adopt,
            paths_allowed=front is not Front.HTTP,
            confirm_above_usd=settings.confirm_above_usd,
            daily_limits=DailyLimits(settings.max_usd_per_day, settings.max_orders_per_day),
            prices={name: one.usd_per_order for name, one in vendors.items() if one.usd_per_order is not None},
            max_in_flight={name: one.max_in_flight for name, one in vendors.items() if one.max_in_flight is not None},
            poll=settings.poll_seconds,
            task_timeout=settings.task_timeout,
            keep_images_days=settings.keep_images_days,
            keep_tasks_days=settings.keep_tasks_days,
            keep_images_bytes=int(settings.keep_images_gb * 10**9),
            public_url=public_url,
            workers=settings.workers,
            max_waiting=max_waiting,
        ),
        events=events,
        clock=clock,
        links=None if images_url is None else ImageLinks(images_url, *link_keys),
    )
    polls = not settings.workers if work is None else work.polls
    return service, Scheduler(service, service.events, clock=clock, observer=observer, polls=polls), client


def _file_roots(settings: "Settings", front: Front) -> tuple[Path, ...]:
    """The folders in which an `image` path may lie."""
    from outpaint_mcp.images.paths import default_roots

    if front is Front.HTTP:
        return ()
    if settings.file_roots is not None:
        return settings.file_roots
    if front is Front.TERMINAL:
        return (Path(Path.cwd().anchor), *default_roots(Path.home(), settings.data_dir, Path.cwd()))
    return default_roots(Path.home(), settings.data_dir, Path.cwd())


def build_http_app(
    settings: "Settings",
    *,
    host: str,
    port: int,
    transport: str = "http",
    sse: bool = False,
    insecure: bool = False,
    observer: "Observer | None" = None,
) -> "HttpApp":
    """What serves MCP over HTTP.

    Args:
        settings: the operator's.
        host: the address that is listened on.
        port: its port.
        transport: ``http`` or ``sse``.
        sse: with ``http``, whether SSE is served too.
        insecure: whether strangers on the network may use it without a token.
        observer: told of what happens.

    Raises:
        ConfigurationError: strangers could reach it unasked, or a setting is wrong.
    """
    from outpaint_mcp.domain.events import TaskEvents
    from outpaint_mcp.server.app import build_server
    from outpaint_mcp.server.lazy_service import LazyService
    from outpaint_mcp.server.rate_limits import RateLimits
    from outpaint_mcp.server.tools import ResultShape
    from outpaint_mcp.web.admission import Admission
    from outpaint_mcp.web.app import (
        MCP_PATH,
        SSE_PATH,
        HttpApp,
        HttpOptions,
        hosts_of,
        is_loopback,
        is_unspecified,
        origins_of,
    )
    from outpaint_mcp.web.auth import ClientVerifier, Keys, client_of_request, fetch_keys, oauth_of
    from outpaint_mcp.web.token_file import TokenFile

    public_url = None if settings.public_url is None else settings.public_url.rstrip("/")
    shown_host = f"[{host}]" if ":" in host else host
    own_url = f"http://{shown_host}:{port}"
    resource = (public_url or own_url) + (SSE_PATH if transport == "sse" else MCP_PATH)
    tokens = None if settings.tokens_file is None else TokenFile(settings.tokens_file)
    oauth = oauth_of(
        settings.oauth_issuer,
        settings.oauth_jwks_url,
        audience=settings.oauth_audience or resource,
        scopes=settings.oauth_scopes,
    )
    if oauth is not None and public_url is None and is_unspecified(host):
        raise ConfigurationError(
            f"Where clients reach this server is not known: {host} is every address of this machine.",
            "Set OUTPAINT_PUBLIC_URL: access tokens are issued for it.",
        )
    asks = tokens is not None or oauth is not None
    if not asks and not insecure and not is_loopback(host):
        raise ConfigurationError(
            f"On {host} anybody who reaches this machine could order at your cost.",
            "Set OUTPAINT_TOKENS_FILE (outpaint-mcp token add NAME makes it) or OUTPAINT_OAUTH_ISSUER; or give "
            "--insecure if something before this server checks who calls.",
        )
    keys = None if oauth is None else Keys(lambda: fetch_keys(oauth.jwks_url))
    events = TaskEvents()
    lazy = LazyService(
        lambda: open_service(
            settings,
            front=Front.HTTP,
            observer=observer,
            events=events,
            public_url=public_url,
            images_url=public_url or (own_url if is_loopback(host) else None),
        )
    )
    limits = RateLimits(requests_per_minute=settings.max_requests_per_minute, waits=settings.max_waits)

    def client_of() -> str:
        return client_of_request(required=asks)

    server = build_server(
        lazy,
        lambda: ResultShape(settings.resource_links, settings.preview),
        events=events,
        client_of=client_of,
        limits=limits,
        paths=False,
    )
    options = HttpOptions(
        hosts=hosts_of(host, public_url, settings.allowed_hosts),
        origins=origins_of(public_url, settings.allowed_origins),
        resource=resource,
        streamable=transport == "http",
        sse=sse or transport == "sse",
        oauth=oauth,
        max_body_bytes=int(settings.max_request_mb * 2**20),
    )
    admission = Admission(limits, client_of, max_sessions=settings.max_sessions, max_body_bytes=options.max_body_bytes)
    verifier = ClientVerifier(resource, tokens, oauth, keys) if asks else None
    return HttpApp(server, lazy, options, admission, verifier=verifier)
