"""What `doctor` asks the operator's own engines, and with `--online` the vendors: of each key, and of its account.

Only calls that cost nothing are made; nothing is ordered.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import anyio

from outpaint_mcp.cli.findings import Finding, Level, problem, warning
from outpaint_mcp.domain.errors import AuthenticationError, ConfigurationError, OutpaintError
from outpaint_mcp.domain.task import ResultImage
from outpaint_mcp.providers.base import Provider
from outpaint_mcp.providers.canvases import Canvases
from outpaint_mcp.providers.http_client import HttpClient
from outpaint_mcp.providers.http_provider import HttpProvider
from outpaint_mcp.providers.local.workers import Workers
from outpaint_mcp.providers.self_hosted import SelfHosted, Tools, build_vendor
from outpaint_mcp.providers.synchronous import SynchronousProvider
from outpaint_mcp.settings import VendorSettings

ANSWER_TIMEOUT: Final = 15.0
"""Seconds in which a vendor must answer, attempts included."""


async def check_accounts(
    vendors: Mapping[str, VendorSettings | ConfigurationError], classes: Mapping[str, type[Provider]]
) -> list[Finding]:
    """What each vendor says of its key, for all that have one; all are asked at the same time."""
    asked: dict[str, Finding | None] = {}
    async with HttpClient() as client, anyio.create_task_group() as tasks:

        async def ask(name: str, provider: HttpProvider) -> None:
            asked[name] = await _check_account(name, provider)

        for name, kind in classes.items():
            vendor = vendors.get(name)
            if not isinstance(vendor, VendorSettings) or not issubclass(kind, HttpProvider) or not vendor.api_key:
                continue
            if issubclass(kind, SelfHosted):
                continue  # there is no account
            key = vendor.api_key.get_secret_value()
            if not key:
                continue
            asked[name] = None
            if issubclass(kind, SynchronousProvider):
                provider: HttpProvider = kind(client, keep=_keep, key=key, base_url=vendor.base_url)
            else:
                provider = kind(client, key=key, base_url=vendor.base_url)
            tasks.start_soon(ask, name, provider)
    return [finding for finding in asked.values() if finding is not None]


async def _check_account(name: str, provider: HttpProvider) -> Finding:
    if not provider.account_path:
        return Finding(name, Level.OK, f"{provider.key_env} was not checked: no free call is known.")
    try:
        with anyio.fail_after(ANSWER_TIMEOUT):
            balance = await provider.account()
    except AuthenticationError as error:
        message = f"{provider.title} says that the key is refused: {error.message}"
        return problem(name, message, f"Set {provider.key_env} to a key that is valid at {provider.title}.")
    except OutpaintError as error:
        return warning(name, f"Whether the key is valid is not known. {error.message}", error.advice)
    except TimeoutError:
        message = f"{provider.title} has not answered within {ANSWER_TIMEOUT:.0f} seconds."
        return warning(name, message, "Try again later, or check the network.")
    except Exception as error:
        # A plug-in's fault, whose text may hold anything.
        message = f"The answer about its account cannot be read: {type(error).__name__}."
        return warning(name, message, "Tell the authors of the provider.")
    if balance is None:
        return Finding(name, Level.OK, f"{provider.title} accepts the key, and tells no balance.")
    if balance.amount <= 0:
        return warning(name, f"{provider.title} accepts the key. Balance: {balance}.", "Top up the account.")
    return Finding(name, Level.OK, f"{provider.title} accepts the key. Balance: {balance}.")


async def check_engines(
    vendors: Mapping[str, VendorSettings | ConfigurationError], classes: Mapping[str, type[Provider]]
) -> list[Finding]:
    """What the operator's own engines are and have, on this machine or its network; others are not asked."""
    found = []
    async with HttpClient() as client:
        tools = Tools(client, _keep, Canvases(Path(), Workers()))
        for name, kind in classes.items():
            vendor = vendors.get(name)
            if not issubclass(kind, SelfHosted) or not isinstance(vendor, VendorSettings) or not vendor.base_url:
                continue
            key = vendor.api_key.get_secret_value() if vendor.api_key else None
            engine = build_vendor(kind, tools, key=key, base_url=vendor.base_url, workflow=vendor.workflow)
            if isinstance(engine, SelfHosted) and (finding := await _check_engine(name, engine)) is not None:
                found.append(finding)
    return found


async def _check_engine(name: str, engine: SelfHosted) -> Finding | None:
    await engine.locate()
    if engine.leaves_owner:
        return Finding(name, Level.OK, f"{engine.title} was not asked: its address is no loopback or private one.")
    try:
        with anyio.fail_after(ANSWER_TIMEOUT):
            seen = await engine.inspected()
    except OutpaintError as error:
        return warning(name, error.message, error.advice.removeprefix("Nothing was ordered. "))
    except TimeoutError:
        message = f"{engine.title} has not answered within {ANSWER_TIMEOUT:.0f} seconds."
        return warning(name, message, "Look whether it hangs, and at its log.")
    if seen is None:
        return None
    return problem(name, seen.message, seen.advice) if seen.advice else Finding(name, Level.OK, seen.message)


async def _keep(data: bytes, client: str) -> ResultImage:
    raise NotImplementedError("nothing is ordered here")
