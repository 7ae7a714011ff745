"""Builds the program from its settings: the service with its providers, and what serves it over HTTP.

What a server needs only after it has answered `tools/list` is imported when it is built, not before.
"""

import contextlib
import logging
import os
import secrets
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from outpaint_mcp.domain.errors import ConfigurationError

if TYPE_CHECKING:
    from outpaint_mcp.domain.events import Observer
    from outpaint_mcp.providers.base import Provider
    from outpaint_mcp.settings import Settings
    from outpaint_mcp.tasks.scheduler import Scheduler
    from outpaint_mcp.tasks.service import Service
    from outpaint_mcp.web.app import HttpApp
    from outpaint_mcp.web.auth import OAuth
    from outpaint_mcp.web.metrics import Metrics


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
    for name in ("mcp", "sse_starlette"):
        logging.getLogger(name).setLevel(max(logging.INFO, logging.getLogger().level))
    return settings


def build_providers(settings: "Settings", client: Any) -> dict[str, "Provider"]:
    """Every provider that is installed, in the order in which `auto` tries them."""
    from outpaint_mcp.providers import DEFAULT_ORDER, provider_classes
    from outpaint_mcp.providers.http_provider import HttpProvider
    from outpaint_mcp.providers.local.provider import LocalProvider
    from outpaint_mcp.providers.local.workers import Workers
    from outpaint_mcp.settings import environment_without_keys, read_vendor_settings

    classes = provider_classes()
    wanted = settings.providers or ()
    unknown = [name for name in wanted if name not in classes]
    if unknown:
        raise ConfigurationError(f"OUTPAINT_PROVIDERS names {', '.join(unknown)}; there are {', '.join(classes)}.")
    built: dict[str, Provider] = {}
    for name in dict.fromkeys([*wanted, *DEFAULT_ORDER, *classes]):
        found = classes.get(name)
        if found is None:
            continue
        if issubclass(found, LocalProvider):
            # What decodes strangers' bytes gets no keys.
            built[name] = found(settings.data_dir, Workers(environment=environment_without_keys()))
        elif issubclass(found, HttpProvider):
            vendor = read_vendor_settings(name)
            key = vendor.api_key.get_secret_value() if vendor.api_key else None
            built[name] = found(client, key=key, base_url=vendor.base_url)
        else:
            built[name] = found()
    return built


@contextlib.asynccontextmanager
async def running_service(
    settings: "Settings", *, at_terminal: bool = False, over_http: bool = False, observer: "Observer | None" = None
) -> AsyncIterator["Service"]:
    """A service whose tasks are followed, until the block ends.

    Args:
        settings: the operator's.
        at_terminal: whether the person who gives a path is the one who owns this process; then any file may be read.
        over_http: whether clients may be on other machines; then no file may, and tasks made elsewhere are strangers'.
        observer: told of what happens.
    """
    service, follower, client = build_service(settings, at_terminal=at_terminal, over_http=over_http, observer=observer)
    async with client, service.running(), follower.running():
        yield service


def build_service(
    settings: "Settings", *, at_terminal: bool = False, over_http: bool = False, observer: "Observer | None" = None
) -> tuple["Service", "Scheduler", Any]:
    """A service, its follower and its HTTP client, none of them running. For the arguments see `running_service`."""
    from outpaint_mcp.domain.record import DailyLimits
    from outpaint_mcp.images.library import ImageLibrary
    from outpaint_mcp.providers.http_client import HttpClient
    from outpaint_mcp.settings import environment_without_keys, read_vendor_settings
    from outpaint_mcp.storage.store import Store
    from outpaint_mcp.tasks.resolver import default_roots
    from outpaint_mcp.tasks.scheduler import Scheduler
    from outpaint_mcp.tasks.service import Service, ServiceOptions

    client = HttpClient(observer=observer)
    providers = build_providers(settings, client)
    roots = () if over_http else settings.file_roots
    if roots is None:
        roots = default_roots(Path.home(), settings.data_dir, Path.cwd())
        if at_terminal:
            roots = (*roots, Path(Path.cwd().anchor))
    prices = {name: read_vendor_settings(name).usd_per_order for name in providers}
    service = Service(
        store=Store(settings.data_dir / "store.db", f"{os.getpid()}-{secrets.token_hex(8)}"),
        pictures=ImageLibrary(
            settings.data_dir,
            roots=roots,
            allow_private=settings.allow_private_urls,
            environment=environment_without_keys(),
        ),
        providers=providers,
        options=ServiceOptions(
            auto=settings.providers or tuple(providers),
            may_leave=bool(settings.providers),
            adopt=not over_http if settings.adopt is None else settings.adopt,
            paths_allowed=not over_http,
            caps=DailyLimits(settings.max_usd_per_day, settings.max_orders_per_day),
            prices={name: price for name, price in prices.items() if price is not None},
            poll=settings.poll_seconds,
            task_timeout=settings.task_timeout,
            keep_images_days=settings.keep_images_days,
            keep_images_bytes=int(settings.keep_images_gb * 10**9),
        ),
    )
    return service, Scheduler(service, observer=observer), client


def build_metrics() -> "Metrics":
    """What counts for Prometheus.

    Raises:
        ConfigurationError: prometheus-client is not installed.
    """
    try:
        from outpaint_mcp.web.metrics import Metrics
    except ImportError:
        raise ConfigurationError(
            "Metrics need the package prometheus-client.", "Install outpaint-mcp[metrics], or leave --metrics-port out."
        ) from None
    return Metrics()


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
    from outpaint_mcp.server.app import ResultShape, create_server
    from outpaint_mcp.server.lazy_service import LazyService
    from outpaint_mcp.server.rate_limits import RateLimits
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
    from outpaint_mcp.web.auth import ClientVerifier, Keys, client_of_request, fetch_keys
    from outpaint_mcp.web.token_file import TokenFile

    public_url = None if settings.public_url is None else settings.public_url.rstrip("/")
    shown_host = f"[{host}]" if ":" in host else host
    resource = (public_url or f"http://{shown_host}:{port}") + (SSE_PATH if transport == "sse" else MCP_PATH)
    tokens = None if settings.tokens_file is None else TokenFile(settings.tokens_file)
    oauth = _oauth(settings, resource)
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
    late = LazyService(lambda: running_service(settings, over_http=True, observer=observer))
    server = create_server(
        late,
        lambda: ResultShape(settings.resource_links, settings.preview),
        client_of=lambda: client_of_request(required=asks),
        limits=RateLimits(requests_per_minute=settings.max_requests_per_minute, waits=settings.max_waits),
    )
    door = HttpOptions(
        hosts=hosts_of(host, public_url, settings.allowed_hosts),
        origins=origins_of(public_url, settings.allowed_origins),
        resource=resource,
        streamable=transport == "http",
        sse=sse or transport == "sse",
        oauth=oauth,
        max_body_bytes=int(settings.max_request_mb * 2**20),
    )
    verifier = ClientVerifier(resource, tokens, oauth, keys) if asks else None
    return HttpApp(server, late, door, verifier=verifier, public_url=public_url)


def _oauth(settings: "Settings", resource: str) -> "OAuth | None":
    from outpaint_mcp.web.auth import OAuth, is_loopback_or_https

    issuer, jwks_url = settings.oauth_issuer, settings.oauth_jwks_url
    if issuer is None and jwks_url is None:
        return None
    if issuer is None or jwks_url is None:
        raise ConfigurationError(
            "OUTPAINT_OAUTH_ISSUER and OUTPAINT_OAUTH_JWKS_URL go together.", "Set both, or neither."
        )
    for name, url in (("ISSUER", issuer), ("JWKS_URL", jwks_url)):
        if not is_loopback_or_https(url):
            raise ConfigurationError(f"OUTPAINT_OAUTH_{name} is no https URL: it could be forged.", "Give one.")
    return OAuth(issuer, settings.oauth_audience or resource, jwks_url, settings.oauth_scopes)
