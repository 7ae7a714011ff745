"""Asks the client's user before an order that costs much, in the way of either protocol era."""

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import anyio
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import (
    CallToolRequestParams,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    InputRequiredResult,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

ANSWER_SECONDS: Final = 240.0
"""How long the user may think while a call of the handshake era is open; Claude Desktop ends it after about as long."""

_NAME: Final = "order"
_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {_NAME: {"type": "boolean", "title": "Place this order", "description": "It will be charged."}},
    "required": [_NAME],
}
"""The form. Some hosts accept by themselves, with nothing filled in: that is no confirmation."""


class ConfirmationWanted(Exception):
    """The call is to be made again with the user's answer, as `result` says."""

    def __init__(self, result: InputRequiredResult) -> None:
        super().__init__("the user is to be asked")
        self.result = result


def asker(
    ctx: ServerRequestContext[Any, Any], params: CallToolRequestParams
) -> Callable[[str], Awaitable[bool]] | None:
    """What puts a question about this call to the user; None if the client cannot.

    In the modern era the question is the call's answer: it raises `ConfirmationWanted`, unless the call brings the
    answer to this very question about these very arguments.
    """
    capabilities = ctx.session.client_capabilities
    elicitation = None if capabilities is None else capabilities.elicitation
    # Before there were modes a client declared an empty object, and meant forms.
    if elicitation is None or (elicitation.form is None and elicitation.url is not None):
        return None
    if ctx.protocol_version in MODERN_PROTOCOL_VERSIONS:
        return lambda question: _answer_in(params, question)
    if not ctx.session.can_send_request:
        return None
    return lambda question: _asked(ctx, question)


async def _answer_in(params: CallToolRequestParams, question: str) -> bool:
    # The client could make an answer up in any case, so the state is not sealed: it keeps an answer to its question.
    asked = json.dumps([question, params.arguments], sort_keys=True)
    state = hashlib.sha256(asked.encode(errors="backslashreplace")).hexdigest()
    answer = (params.input_responses or {}).get(_NAME)
    if params.request_state == state and isinstance(answer, ElicitResult):
        return _says_yes(answer)
    raise ConfirmationWanted(InputRequiredResult(input_requests={_NAME: _request(question)}, request_state=state))


async def _asked(ctx: ServerRequestContext[Any, Any], question: str) -> bool:
    with anyio.move_on_after(ANSWER_SECONDS):
        try:
            return _says_yes(await ctx.session.elicit_form(question, _SCHEMA, related_request_id=ctx.request_id))
        except MCPError:
            return False
    return False


def _request(question: str) -> ElicitRequest:
    return ElicitRequest(params=ElicitRequestFormParams(message=question, requested_schema=_SCHEMA))


def _says_yes(answer: ElicitResult) -> bool:
    content: Mapping[str, Any] = answer.content or {}
    return answer.action == "accept" and content.get(_NAME) is True
