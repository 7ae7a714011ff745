"""What the current request holds in memory, so that whatever goes on with it after its answer can say so.

A contextvar, since tasks inherit it: nothing between the front and the work needs to hand it on.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from typing import Final

HOLDING: Final[ContextVar[Callable[[], AbstractContextManager[None]]]] = ContextVar("HOLDING", default=nullcontext)


def holding() -> AbstractContextManager[None]:
    """A block in which what came with the current request counts as held."""
    return HOLDING.get()()
