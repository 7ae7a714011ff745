"""Asks the user for API keys on a terminal, and where engines of their own are.

A key is never shown, and never stands on a command line or in a log.
"""

import contextlib
import getpass
import re
import sys
from collections.abc import Callable, Collection, Mapping
from typing import Final

from outpaint_mcp.cli.commands import print_line
from outpaint_mcp.cli.settings_checks import flaw_in_key

TRIES: Final = 3
"""How often a key is asked for that cannot be one."""


def is_terminal() -> bool:
    """Whether somebody sits there who can be asked."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout))


def ask_for_keys(
    variables: Mapping[str, str],
    stored: Collection[str],
    addresses: Mapping[str, str] | None = None,
    *,
    ask: Callable[[str], str] = input,
    ask_secretly: Callable[[str], str] = getpass.getpass,
    tell: Callable[[str], None] = print_line,
) -> dict[str, str]:
    """The keys and addresses that the user gives, by environment variable; empty if they want none.

    Args:
        variables: each provider's environment variable.
        stored: the variables that have a key already.
        addresses: the variable of each engine's address.
        ask: asks for a line that is shown while it is typed.
        ask_secretly: asks for one that is not.
        tell: shows a line.
    """
    tell("No key is needed to begin: without one, images are extended on this machine. Providers that take a key:")
    for name, variable in variables.items():
        tell(f"  {name:10} {variable}" + (" (has one)" if variable in stored else ""))
    addresses = addresses or {}
    if addresses:
        tell("Engines of your own, which need their address alone:")
        for name, variable in addresses.items():
            tell(f"  {name:10} {variable}")
    keys: dict[str, str] = {}
    # An end of input is the end of the keys; those given before it count.
    with contextlib.suppress(EOFError):
        for name in _names({**variables, **addresses}, ask, tell):
            if name in addresses:
                if address := _address(addresses[name], ask, tell):
                    keys[addresses[name]] = address
                continue
            variable = variables[name]
            for _ in range(TRIES):
                key = ask_secretly(f"{variable} (not shown; Enter leaves it as it is): ").strip()
                flaw = flaw_in_key(key) if key else None
                if flaw is None:
                    break
                tell(f"That cannot be the key: it {flaw}. Copy the key alone from the provider's site.")
            else:
                tell(f"{variable} is left as it is.")
                continue
            if key:
                keys[variable] = key
    return keys


def _address(variable: str, ask: Callable[[str], str], tell: Callable[[str], None]) -> str:
    """Where an engine is; empty if that stays as it is."""
    for _ in range(TRIES):
        address = ask(f"{variable}, such as http://127.0.0.1:8188 (Enter leaves it as it is): ").strip()
        if not address or re.fullmatch(r"https?://[^\s/?#]+[^\s?#]*", address):
            return address
        tell("That is no address: it begins with http:// or https://.")
    tell(f"{variable} is left as it is.")
    return ""


def _names(variables: Mapping[str, str], ask: Callable[[str], str], tell: Callable[[str], None]) -> list[str]:
    while True:
        typed = ask("Names of those that you have, or Enter for none: ").replace(",", " ").split()
        by_variable = {variable: name for name, variable in variables.items()}
        names = [by_variable.get(one.upper(), one.lower()) for one in typed]
        unknown = [one for one in names if one not in variables]
        if not unknown:
            return list(dict.fromkeys(names))
        # Whoever pastes a key here must not see it repeated.
        tell(f"{len(unknown)} of these {'is' if len(unknown) == 1 else 'are'} no provider's name. A key comes next.")
