"""Completions: what a host offers while its user fills in a prompt's arguments or a resource's address."""

from collections.abc import Callable, Iterable
from typing import Any, Final

from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, CompleteRequestParams, CompleteResult, Completion, PromptReference

from outpaint_mcp.domain.errors import InvalidRequestError, OutpaintError
from outpaint_mcp.domain.request import AUTO, SIDES
from outpaint_mcp.domain.task import Status
from outpaint_mcp.server.arguments import MAX_ID
from outpaint_mcp.server.lazy_service import LazyService
from outpaint_mcp.server.prompts import WIDESCREEN, template_of
from outpaint_mcp.server.resources import IMAGE_TEMPLATE, SCREEN_TEMPLATE, TASK_TEMPLATE

MOST_VALUES: Final = 100
"""How many values one answer may hold, by the protocol."""

_USUAL: Final = {
    "aspect_ratio": (WIDESCREEN, "21:9", "2:1", "3:2", "4:3", "5:4", "1:1", "4:5", "3:4", "2:3", "9:16"),
    "zoom": ("2", "1.5", "1.25"),
    "amount": ("50", "25", "100"),
}
"""What is often wanted of arguments that take any value within limits."""


class Completions:
    """Completes arguments.

    Args:
        lazy: the service, for the providers and the tasks.
        client_of: who makes the current request; nobody is offered another's tasks.
    """

    def __init__(self, lazy: LazyService, client_of: Callable[[], str]) -> None:
        self._lazy = lazy
        self._client_of = client_of

    async def complete(self, _: ServerRequestContext[Any, Any], params: CompleteRequestParams) -> CompleteResult:
        """The values that begin with what was typed; none where nothing can be offered.

        Raises:
            MCPError: there is no such prompt or resource template, or it has no such argument.
        """
        typed = params.argument.value
        given = (params.context.arguments if params.context else None) or {}
        try:
            known = self._arguments(params)
            if params.argument.name not in known:
                raise InvalidRequestError(
                    f"There is no argument {params.argument.name[:60]!r}.", f"The arguments are {', '.join(known)}."
                )
        except InvalidRequestError as error:
            raise MCPError(INVALID_PARAMS, str(error)) from error
        try:
            found = await self._values(params.argument.name, typed, given)
        except OutpaintError:
            # Whoever types is not to be stopped by it; the call that follows says what is wrong.
            found = []
        return CompleteResult(
            completion=Completion(values=found[:MOST_VALUES], has_more=len(found) > MOST_VALUES),
        )

    def _arguments(self, params: CompleteRequestParams) -> Iterable[str]:
        if isinstance(params.ref, PromptReference):
            return template_of(params.ref.name).arguments
        templates = {
            TASK_TEMPLATE: ("id",),
            IMAGE_TEMPLATE: ("id", "index"),
            SCREEN_TEMPLATE: ("id", "index"),
        }
        if params.ref.uri not in templates:
            raise InvalidRequestError("There is no such template.", f"The templates are {', '.join(templates)}.")
        return templates[params.ref.uri]

    async def _values(self, name: str, typed: str, given: dict[str, str]) -> list[str]:
        match name:
            case "id" | "image":
                if len(typed) > MAX_ID:
                    return []
                service = await self._lazy.get()
                # A prompt extends a task, which must have succeeded.
                status = Status.SUCCEEDED if name == "image" else None
                return await service.task_ids(typed, client=self._client_of(), limit=MOST_VALUES + 1, status=status)
            case "index":
                task = await (await self._lazy.get()).get_task(given.get("id", ""), client=self._client_of())
                offered: Iterable[str] = [str(image.index) for image in task.images]
            case "provider":
                providers = await (await self._lazy.get()).list_providers()
                ready = sorted(providers, key=lambda one: not one.configured)
                offered = (AUTO, *(one.name for one in ready))
            case "sides":
                return _sides(typed)
            case _:
                offered = _USUAL.get(name, ())
        return [value for value in offered if value.startswith(typed.strip().lower())]


def _sides(typed: str) -> list[str]:
    """The last of several sides, completed; those before it stay as they are typed."""
    *before, last = typed.split(",")
    named = {one.strip().lower() for one in before}
    wanted = last.strip().lower()
    return [
        ", ".join([*(one.strip() for one in before), side])
        for side in SIDES
        if side.startswith(wanted) and side not in named
    ]
