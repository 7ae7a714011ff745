"""API keys in the system's keyring (Keychain, Windows' Credential Locker, Secret Service), by the extra `keyring`.

Calls may block until the user unlocks it, so a server makes them in a thread, which does not keep it from ending.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, TypeVar

from outpaint_mcp.domain.errors import ConfigurationError

if TYPE_CHECKING:
    from types import ModuleType

T = TypeVar("T")

SERVICE: Final = "outpaint-mcp"
"""Under which name the keys lie there; each one's user name is its environment variable."""


def stored_keys(variables: Iterable[str]) -> dict[str, str]:
    """Those of the keys that the keyring holds, by environment variable.

    Raises:
        ConfigurationError: it cannot be read.
    """

    def read(keyring: "ModuleType") -> dict[str, str]:
        found = ((variable, keyring.get_password(SERVICE, variable)) for variable in variables)
        return {variable: key for variable, key in found if key}

    return _with_keyring(read, "read")


def store_keys(keys: dict[str, str]) -> None:
    """Put keys, by environment variable, into the keyring.

    Raises:
        ConfigurationError: it cannot be written.
    """

    def write(keyring: "ModuleType") -> None:
        for variable, key in keys.items():
            keyring.set_password(SERVICE, variable, key)

    _with_keyring(write, "written")


def delete_keys(variables: Iterable[str]) -> list[str]:
    """Delete those of the keys that the keyring holds; says which these were.

    Raises:
        ConfigurationError: it cannot be read or written.
    """

    def delete(keyring: "ModuleType") -> list[str]:
        found = [variable for variable in variables if keyring.get_password(SERVICE, variable) is not None]
        for variable in found:
            keyring.delete_password(SERVICE, variable)
        return found

    return _with_keyring(delete, "written")


def _with_keyring(work: "Callable[[ModuleType], T]", done: str) -> T:
    try:
        import keyring
    except ImportError:
        raise ConfigurationError(
            "The system's keyring needs the extra keyring, which is not installed.",
            "Install outpaint-mcp[keyring] (uv tool install 'outpaint-mcp[keyring]'), or unset OUTPAINT_KEYRING and "
            "set the keys as environment variables.",
        ) from None
    try:
        return work(keyring)
    except Exception as error:
        # Backends are others' code, and raise what they like (D-Bus errors, an ImportError of one that is configured).
        # Its text may name what it was asked for, and is no use to a user; its kind is.
        raise ConfigurationError(
            f"The system's keyring cannot be {done} ({type(error).__name__}).",
            "Unlock it, or install one (on Linux a Secret Service such as GNOME Keyring or KWallet); or unset "
            "OUTPAINT_KEYRING and set the keys as environment variables.",
        ) from None
