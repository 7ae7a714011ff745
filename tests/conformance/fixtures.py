"""What the suites ask of a server's own tools, written by their descriptions."""

import base64
import hmac
import io
import json
import secrets
import wave
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import anyio
from mcp.server.context import HandlerResult, ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    AudioContent,
    CallToolRequestParams,
    CallToolResult,
    ContentBlock,
    CreateMessageRequest,
    CreateMessageRequestParams,
    CreateMessageResult,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    EmbeddedResource,
    GetPromptRequestParams,
    ImageContent,
    InputRequest,
    InputRequiredResult,
    InputResponse,
    ListRootsRequest,
    ListRootsResult,
    SamplingMessage,
    TextContent,
    TextResourceContents,
)
from PIL import Image

Context = ServerRequestContext[Any, Any]
Call = Callable[[Context, CallToolRequestParams], Awaitable[HandlerResult]]
Asked = CallToolRequestParams | GetPromptRequestParams

NO_ARGUMENTS: Final[dict[str, Any]] = {"type": "object", "properties": {}}


def text(said: str) -> TextContent:
    return TextContent(type="text", text=said)


def result(*content: ContentBlock) -> CallToolResult:
    return CallToolResult(content=list(content))


def a_png() -> str:
    written = io.BytesIO()
    Image.new("RGB", (1, 1), "red").save(written, "PNG")
    return base64.b64encode(written.getvalue()).decode()


def a_wav() -> str:
    written = io.BytesIO()
    with wave.open(written, "wb") as sound:
        sound.setparams((1, 1, 8000, 1, "NONE", ""))
        sound.writeframes(b"\x80")
    return base64.b64encode(written.getvalue()).decode()


def image() -> ImageContent:
    return ImageContent(type="image", data=a_png(), mime_type="image/png")


def embedded(uri: str, mime_type: str, said: str) -> EmbeddedResource:
    contents = TextResourceContents(uri=uri, mime_type=mime_type, text=said)
    return EmbeddedResource(type="resource", resource=contents)


# What the user, the model or the client's roots are asked


def question(message: str, name: str, kind: str = "string") -> ElicitRequest:
    schema: dict[str, Any] = {"type": "object", "properties": {name: {"type": kind}}, "required": [name]}
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def sampling(said: str, tokens: int = 100) -> CreateMessageRequest:
    messages = [SamplingMessage(role="user", content=text(said))]
    return CreateMessageRequest(params=CreateMessageRequestParams(messages=messages, max_tokens=tokens))


NAME: Final = question("What is your name?", "name")
KEY: Final = secrets.token_bytes(32)


def sealed(state: str) -> str:
    """A state that a client cannot make up."""
    return f"{state}.{hmac.new(KEY, state.encode(), 'sha256').hexdigest()}"


def state_in(params: Asked) -> str | None:
    """The state that a client brings back.

    Raises:
        MCPError: it was changed.
    """
    if params.request_state is None:
        return None
    state = params.request_state.rpartition(".")[0]
    if not hmac.compare_digest(sealed(state), params.request_state):
        raise MCPError(INVALID_PARAMS, "The request's state was changed.")
    return state


def answers_to(params: Asked, asked: Mapping[str, InputRequest]) -> dict[str, InputResponse] | None:
    """The answers to what was asked, if they are all there and of the right kind."""
    kinds = {"elicitation/create": ElicitResult, "roots/list": ListRootsResult}
    brought = params.input_responses or {}
    for name, request in asked.items():
        if not isinstance(brought.get(name), kinds.get(request.method, CreateMessageResult)):
            return None
    return {name: brought[name] for name in asked}


def told(answer: InputResponse) -> str:
    """What an answer says, in words."""
    match answer:
        case ElicitResult():
            return " ".join(str(value) for value in (answer.content or {}).values())
        case ListRootsResult():
            return " ".join(str(root.uri) for root in answer.roots)
        case CreateMessageResult(content=TextContent(text=said)):
            return said
    return ""


def asking(asked: Mapping[str, InputRequest], said: str = "{}", *, state: str | None = None) -> Call:
    """A tool that asks first, and then says what was answered."""

    async def call(_: Context, params: CallToolRequestParams) -> HandlerResult:
        brought = state_in(params)
        answers = answers_to(params, asked)
        if answers is None or (state is not None and brought != state):
            return InputRequiredResult(
                input_requests=dict(asked), request_state=None if state is None else sealed(state)
            )
        return result(text(said.format(" ".join(map(told, answers.values())))))

    return call


async def rounds(_: Context, params: CallToolRequestParams) -> HandlerResult:
    """Asks twice, one after the other."""
    first = {"step1": question("Step 1: What is your name?", "name")}
    second = {"step2": question("Step 2: What is your favorite color?", "color")}
    match state_in(params):
        case "1" if answers_to(params, first):
            return InputRequiredResult(input_requests=dict(second), request_state=sealed("2"))
        case "2" if answers := answers_to(params, second):
            return result(text(f"Your color is {told(answers['step2'])}."))
    return InputRequiredResult(input_requests=dict(first), request_state=sealed("1"))


async def by_capability(ctx: Context, params: CallToolRequestParams) -> HandlerResult:
    """Asks only what the client can be asked."""
    declared = ctx.session.client_capabilities
    asked: dict[str, InputRequest] = {}
    if declared is not None and declared.sampling is not None:
        asked["model"] = sampling("What is the capital of France?")
    if declared is not None and declared.elicitation is not None:
        asked["user"] = NAME
    return await asking(asked)(ctx, params)


async def needs_sampling(ctx: Context, _: CallToolRequestParams) -> HandlerResult:
    declared = ctx.session.client_capabilities
    if declared is None or declared.sampling is None:
        required: dict[str, Any] = {"requiredCapabilities": {"sampling": {}}}
        raise MCPError(MISSING_REQUIRED_CLIENT_CAPABILITY, "The client has no sampling.", required)
    return result(text("The client has sampling."))


# What is sent while a call lasts


async def logs(ctx: Context, _: CallToolRequestParams) -> HandlerResult:
    for said in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await ctx.session.send_log_message("info", said, related_request_id=ctx.request_id)
        await anyio.sleep(0.05)
    return result(text("Logged three times."))


async def progresses(ctx: Context, _: CallToolRequestParams) -> HandlerResult:
    for done in (0, 50, 100):
        await ctx.session.report_progress(done, 100)
        await anyio.sleep(0.05)
    return result(text("Done."))


async def fails(_: Context, __: CallToolRequestParams) -> HandlerResult:
    return CallToolResult(content=[text("This tool intentionally returns an error for testing")], is_error=True)


async def asks_the_model(ctx: Context, params: CallToolRequestParams) -> HandlerResult:
    prompt = (params.arguments or {})["prompt"]
    messages = [SamplingMessage(role="user", content=text(prompt))]
    answer = await ctx.session.create_message(messages, max_tokens=100, related_request_id=ctx.request_id)
    return result(text(f"LLM response: {told(answer)}"))


def asks_the_user(said: str, message: str | None, properties: Mapping[str, Any]) -> Call:
    """A tool that asks while its call lasts, as before 2026-07-28."""
    schema: dict[str, Any] = {"type": "object", "properties": dict(properties), "required": list(properties)}

    async def call(ctx: Context, params: CallToolRequestParams) -> HandlerResult:
        words = message or (params.arguments or {})["message"]
        answer = await ctx.session.elicit_form(words, schema, related_request_id=ctx.request_id)
        return result(text(f"{said}: action={answer.action}, content={json.dumps(answer.content)}"))

    return call


async def breaks_its_stream(ctx: Context, _: CallToolRequestParams) -> HandlerResult:
    if ctx.close_sse_stream is not None:
        await ctx.close_sse_stream()
    await anyio.sleep(0.1)
    return result(text("The call went on."))


def saying(*content: ContentBlock) -> Call:
    async def call(_: Context, __: CallToolRequestParams) -> HandlerResult:
        return result(*content)

    return call


def titled(*names: str) -> list[dict[str, str]]:
    return [{"const": f"value{number}", "title": name} for number, name in enumerate(names, start=1)]


def takes(**properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


WORD: Final = {"type": "string"}
SCHEMA: Final[dict[str, Any]] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {"address": {"$anchor": "addressDef", "type": "object", "properties": {"street": WORD, "city": WORD}}},
    "properties": {
        "name": WORD,
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": WORD,
        "email": WORD,
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}
DEFAULTS: Final[dict[str, Any]] = {
    "name": {"type": "string", "default": "John Doe"},
    "age": {"type": "integer", "default": 30},
    "score": {"type": "number", "default": 95.5},
    "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
    "verified": {"type": "boolean", "default": True},
}
_OPTIONS: Final = ["option1", "option2", "option3"]
ENUMS: Final[dict[str, Any]] = {
    "untitledSingle": {"type": "string", "enum": _OPTIONS},
    "titledSingle": {"type": "string", "oneOf": titled("First Option", "Second Option", "Third Option")},
    "legacyEnum": {
        "type": "string",
        "enum": ["opt1", "opt2", "opt3"],
        "enumNames": ["Option One", "Option Two", "Option Three"],
    },
    "untitledMulti": {"type": "array", "items": {"type": "string", "enum": _OPTIONS}},
    "titledMulti": {"type": "array", "items": {"anyOf": titled("First Choice", "Second Choice", "Third Choice")}},
}
MIXED: Final = embedded("test://mixed-content-resource", "application/json", '{"test":"data","value":123}')

TOOLS: Final[Mapping[str, tuple[dict[str, Any], Call]]] = {
    "test_simple_text": (NO_ARGUMENTS, saying(text("This is a simple text response for testing."))),
    "test_image_content": (NO_ARGUMENTS, saying(image())),
    "test_audio_content": (NO_ARGUMENTS, saying(AudioContent(type="audio", data=a_wav(), mime_type="audio/wav"))),
    "test_embedded_resource": (
        NO_ARGUMENTS,
        saying(embedded("test://embedded-resource", "text/plain", "This is an embedded resource content.")),
    ),
    "test_multiple_content_types": (NO_ARGUMENTS, saying(text("Multiple content types test:"), image(), MIXED)),
    "test_tool_with_logging": (NO_ARGUMENTS, logs),
    "test_logging_tool": (NO_ARGUMENTS, logs),
    "test_tool_with_progress": (NO_ARGUMENTS, progresses),
    "test_error_handling": (NO_ARGUMENTS, fails),
    "test_sampling": (takes(prompt=WORD), asks_the_model),
    "test_elicitation": (
        takes(message=WORD),
        asks_the_user("User response", None, {"username": WORD, "email": WORD}),
    ),
    "test_elicitation_sep1034_defaults": (
        NO_ARGUMENTS,
        asks_the_user("Elicitation completed", "Who are you?", DEFAULTS),
    ),
    "test_elicitation_sep1330_enums": (NO_ARGUMENTS, asks_the_user("Elicitation completed", "Choose", ENUMS)),
    "test_reconnection": (NO_ARGUMENTS, breaks_its_stream),
    "json_schema_2020_12_tool": (SCHEMA, saying(text("The schema is as it was."))),
    "test_x_mcp_header": (
        takes(region={"type": "string", "x-mcp-header": "Region"}),
        saying(text("The header is right.")),
    ),
    "test_missing_capability": (NO_ARGUMENTS, needs_sampling),
    "test_streaming_elicitation": (NO_ARGUMENTS, asking({"user_name": NAME})),
    "test_input_required_result_elicitation": (NO_ARGUMENTS, asking({"user_name": NAME}, "Hello, {}!")),
    "test_input_required_result_sampling": (
        NO_ARGUMENTS,
        asking({"capital_question": sampling("What is the capital of France?")}),
    ),
    "test_input_required_result_list_roots": (NO_ARGUMENTS, asking({"client_roots": ListRootsRequest()})),
    "test_input_required_result_request_state": (
        NO_ARGUMENTS,
        asking({"confirm": question("Please confirm", "ok", "boolean")}, "state-ok {}", state="confirming"),
    ),
    "test_input_required_result_tampered_state": (
        NO_ARGUMENTS,
        asking({"confirm": question("Please confirm", "ok", "boolean")}, state="confirming"),
    ),
    "test_input_required_result_multiple_inputs": (
        NO_ARGUMENTS,
        asking(
            {
                "user_name": NAME,
                "greeting": sampling("Generate a greeting", 50),
                "client_roots": ListRootsRequest(),
            },
            state="asking",
        ),
    ),
    "test_input_required_result_multi_round": (NO_ARGUMENTS, rounds),
    "test_input_required_result_capabilities": (NO_ARGUMENTS, by_capability),
}
"""Each tool's schema of arguments, and what answers a call."""
