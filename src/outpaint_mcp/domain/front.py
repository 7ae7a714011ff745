"""Where requests come from."""

from enum import Enum


class Front(Enum):
    """Where requests come from, which decides what they may do."""

    STDIO = "stdio"
    """A host on this machine: paths in the operator's file roots, tasks made elsewhere can be imported."""
    TERMINAL = "terminal"
    """The person who owns this process: any path."""
    HTTP = "http"
    """Clients that may be on other machines: no path, and tasks made elsewhere are strangers'."""

    @property
    def is_shared(self) -> bool:
        """Whether clients share it, of which one may be hostile."""
        return self is Front.HTTP
