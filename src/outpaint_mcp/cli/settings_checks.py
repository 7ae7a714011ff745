"""What `doctor` says of the settings: the environment variables, the files and folders they name, the providers' keys.

A key's value is looked at and never shown.
"""

import difflib
import ipaddress
import os
import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from outpaint_mcp.cli.findings import Finding, Level, problem, warning
from outpaint_mcp.domain.errors import ConfigurationError
from outpaint_mcp.images.addresses import is_address, is_private
from outpaint_mcp.providers.base import Provider
from outpaint_mcp.providers.http_provider import HttpProvider
from outpaint_mcp.providers.self_hosted import SelfHosted
from outpaint_mcp.settings import Settings, VendorSettings
from outpaint_mcp.web.token_file import TokenFile, token_names

SHORTEST_KEY: Final = 12
"""Characters. No vendor publishes how long its keys are; all that were seen are much longer."""


def check_settings(
    settings: Settings | ConfigurationError, vendors: Mapping[str, VendorSettings | ConfigurationError]
) -> list[Finding]:
    """Which settings cannot be read; the messages name the variables."""
    errors = [read for read in (settings, *vendors.values()) if isinstance(read, ConfigurationError)]
    if not errors:
        return [Finding("settings", Level.OK, "All settings can be read.")]
    return [problem("settings", error.message, error.advice) for error in errors]


def known_variables(providers: Mapping[str, type[Provider]]) -> frozenset[str]:
    """Every environment variable that is a setting, including the providers' own."""
    names = {f"OUTPAINT_{name}" for name in Settings.model_fields}
    for provider, kind in providers.items():
        own = {name: f"{_prefix(provider)}{name}" for name in VendorSettings.model_fields}
        if not getattr(kind, "takes_workflow", False):
            del own["workflow"]
        if issubclass(kind, HttpProvider):
            own["api_key"] = kind.key_env
        names |= set(own.values())
    return frozenset(name.upper() for name in names)


def _prefix(provider: str) -> str:
    return provider.upper().replace("-", "_") + "_"


def check_variables(variables: Collection[str], known: Collection[str]) -> list[Finding]:
    """Variables that look like settings, such as misspelt ones, and are none."""
    found = []
    prefixes = {name[: name.index("_") + 1] for name in known}
    for name in sorted(variables):
        upper = name.upper()
        if upper in known or not upper.startswith(tuple(prefixes)):
            continue
        own = [one for one in known if one.startswith(upper[: upper.index("_") + 1])]
        near = next(filter(None, (difflib.get_close_matches(upper, these, 1, 0.75) for these in (own, known))), [])
        # Other programs' variables may begin with a vendor's name too.
        if near or upper.startswith("OUTPAINT_"):
            advice = f"Was {near[0]} meant?" if near else "Remove it; docs/settings.md lists the settings."
            found.append(warning("variables", f"No setting is called {name}.", advice))
    return found


def check_file_roots(roots: Sequence[Path] | None) -> list[Finding]:
    """Whether the folders from which images may be read exist and can be read."""
    if roots is None:
        return [Finding("file roots", Level.OK, "The default ones: the home, data and working folders.")]
    found = []
    for root in roots:
        if not root.is_absolute():
            advice = "Write the whole path in OUTPAINT_FILE_ROOTS: the client chooses the working folder."
            found.append(warning("file roots", f"{root} depends on the working folder.", advice))
        elif not root.is_dir():
            advice = "Create it, or correct OUTPAINT_FILE_ROOTS."
            found.append(warning("file roots", f"{root} is not a folder.", advice))
        elif not os.access(root, os.R_OK | os.X_OK):
            advice = "Let this user read it, or correct OUTPAINT_FILE_ROOTS."
            found.append(warning("file roots", f"{root} cannot be read.", advice))
        elif root == Path(root.anchor):
            advice = "Name the folders that hold images in OUTPAINT_FILE_ROOTS."
            found.append(warning("file roots", "Every file may be sent to a vendor.", advice))
    if not roots:
        return [Finding("file roots", Level.OK, "None: images are accepted by URL only.")]
    return found or [Finding("file roots", Level.OK, ", ".join(map(str, roots)))]


def check_tokens_file(path: Path) -> list[Finding]:
    """Whether the file of bearer tokens can be read, and whether other users can read or write it."""
    try:
        TokenFile(path)
        names = token_names(path)
        mode = path.stat().st_mode
    except ConfigurationError as error:
        return [problem("tokens file", error.message, error.advice)]
    except OSError as error:
        return [problem("tokens file", f"{path} cannot be read: {error.strerror}.", "Check OUTPAINT_TOKENS_FILE.")]
    command = f"chmod 600 {shlex.quote(str(path))}"
    if os.name == "posix" and mode & 0o022:
        return [problem("tokens file", f"Other users can write {path}: they could add tokens.", command)]
    if os.name == "posix" and mode & 0o044:
        return [warning("tokens file", f"Other users can read the names in {path}.", command)]
    if not names:
        advice = "outpaint-mcp token add NAME"
        return [warning("tokens file", f"{path} holds no token: every request is rejected.", advice)]
    return [Finding("tokens file", Level.OK, f"Tokens in {path}: {len(names)}")]


def check_providers(
    settings: Settings | ConfigurationError,
    vendors: Mapping[str, VendorSettings | ConfigurationError],
    classes: Mapping[str, type[Provider]],
    variables: Collection[str] = (),
) -> list[Finding]:
    """Each provider's key and base URL, and whether the providers that `auto` is to try are installed.

    A key that none of the `variables` holds comes from the system's keyring.
    """
    found: list[Finding] = []
    chosen: tuple[str, ...] = ()
    daily_limit = None
    if not isinstance(settings, ConfigurationError):
        chosen, daily_limit = settings.providers or (), settings.max_usd_per_day
    unknown = [name for name in chosen if name not in classes]
    if unknown:
        message = f"OUTPAINT_PROVIDERS names {', '.join(unknown)}, which is not installed."
        found.append(problem("providers", message, f"Installed are {', '.join(classes)}."))
    seen: dict[str, str] = {}
    for name, kind in classes.items():
        vendor = vendors.get(name)
        if vendor is None or isinstance(vendor, ConfigurationError) or not issubclass(kind, HttpProvider):
            continue
        key = vendor.api_key.get_secret_value() if vendor.api_key else ""
        is_engine = issubclass(kind, SelfHosted)
        if not (vendor.base_url if is_engine else key):
            needed = kind.base_url_env() if issubclass(kind, SelfHosted) else kind.key_env
            if name in chosen:
                message = f"OUTPAINT_PROVIDERS names it, but {needed} is not set."
                found.append(warning(name, message, f"Set {needed}, or leave {name} out."))
            else:
                found.append(Finding(name, Level.OK, f"Not used: {needed} is not set."))
            continue
        if is_engine:
            found.append(_check_engine_url(name, vendor.base_url or ""))
            continue
        flaw = flaw_in_key(key)
        if flaw is not None:
            found.append(warning(name, f"{kind.key_env} {flaw}.", "Copy the key from the vendor's site."))
        elif key in seen:
            message = f"{kind.key_env} is the same as {seen[key]}."
            found.append(warning(name, message, "Give each vendor its own key."))
        else:
            where = "set" if kind.key_env in variables else "in the system's keyring"
            found.append(Finding(name, Level.OK, f"{kind.key_env} is {where}."))
        seen.setdefault(key, kind.key_env)
        if vendor.base_url is not None:
            found.append(_check_base_url(name, vendor.base_url))
        if daily_limit is not None and not kind.usd and vendor.usd_per_order is None:
            variable = f"{_prefix(name)}USD_PER_ORDER"
            message = "OUTPAINT_MAX_USD_PER_DAY blocks its orders, since its price in USD is not known."
            found.append(warning(name, message, f"Set {variable} to what one order may cost."))
    return found


def flaw_in_key(key: str) -> str | None:
    """Why an API key cannot be valid, as the end of a sentence; None if it may be. Never holds the key."""
    bare = key.strip()
    if bare != key:
        return "has white space around it"
    if re.fullmatch(r"(['\"`]).*\1|['\"`].*|.*['\"`]", bare):
        return "has quotes around it"
    if re.match(r"(bearer|token|x-api-key)[\s:=]", bare, re.IGNORECASE):
        return "holds part of a header besides the key"
    # A base64 text has = at its end alone.
    if re.match(r"((export|set|setx)\s|\$env:)|[A-Z][A-Z0-9_]*\s*=\s*[^=\s]", bare, re.ASCII):
        return "holds the variable's name besides the key"
    if re.match(r"https?://", bare, re.IGNORECASE):
        return "is an address"
    if re.match(r"\$|%.*%$|\{\{", bare):
        return "is a variable that was not substituted"
    if re.search(r"<|>|\.\.\.|…|x{4}|\*{3}", bare, re.IGNORECASE) or re.search(
        r"your|change.?me|replace|placeholder|example|api.?key|insert", bare, re.IGNORECASE
    ):
        return "looks like a placeholder"
    if re.fullmatch(r"[!-~]+", bare) is None:
        return "holds characters that cannot be part of a key"
    if len(bare) < SHORTEST_KEY:
        return f"is very short for a key (below {SHORTEST_KEY} characters)"
    return None


def _check_base_url(name: str, url: str) -> Finding:
    parts = urlsplit(url)
    host = parts.hostname or ""
    variable = f"{_prefix(name)}BASE_URL"
    # Only the host is shown: the user name or the path may hold a gateway's secret.
    if parts.scheme == "http" and not _is_loopback(host):
        message = f"{variable} sends the key unencrypted to {host}."
        return warning(name, message, "Use https, unless the connection is protected otherwise.")
    return Finding(name, Level.OK, f"{variable} sends its orders to {host} instead of {name}.")


def _check_engine_url(name: str, url: str) -> Finding:
    parts = urlsplit(url)
    host = parts.hostname or ""
    variable = f"{_prefix(name)}BASE_URL"
    if parts.scheme == "http" and is_address(host) and not is_private(host):
        message = f"{variable} sends images unencrypted to {host}."
        return warning(name, message, "Use https, unless the connection is protected otherwise.")
    return Finding(name, Level.OK, f"{variable} names the engine at {host}.")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
