"""Our server with the suites' own tools, resources and prompts mounted beside ours, through the SDK's public methods.

Run as a program it serves stdin and stdout.
"""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import anyio
from mcp.server import Server
from mcp.server.context import HandlerResult
from mcp_types import (
    CallToolRequestParams,
    CompleteRequestParams,
    CompleteResult,
    Completion,
    EmptyResult,
    GetPromptRequestParams,
    PaginatedRequestParams,
    PromptReference,
    ReadResourceRequestParams,
    ReadResourceResult,
    Resource,
    ResourceTemplate,
    SetLevelRequestParams,
    SubscribeRequestParams,
    Tool,
)
from pydantic import Field

from outpaint_mcp.bootstrap import open_service
from outpaint_mcp.domain.events import TaskEvents
from outpaint_mcp.server.app import build_server
from outpaint_mcp.server.lazy_service import LazyService
from outpaint_mcp.server.rate_limits import RateLimits
from outpaint_mcp.server.stdio import serve_stdio
from outpaint_mcp.server.task_extension import TaskParams
from outpaint_mcp.settings import Settings, read_settings
from outpaint_mcp.web.admission import Admission
from outpaint_mcp.web.app import MCP_PATH, HttpApp, HttpOptions, hosts_of, origins_of
from outpaint_mcp.web.uvicorn_server import base_url_of, listening, serving

from .fixtures import TOOLS, Context
from .resource_fixtures import PROMPTS, RESOURCES, TEMPLATE, contents_of, prompt_of
from .task_fixtures import FixtureTasks

Handler = Callable[[Context, Any], Awaitable[HandlerResult]]


class UpdateParams(TaskParams):
    input_responses: dict[str, Any] = Field(default_factory=dict)


def mount(server: Server[None]) -> None:
    """Put the suites' fixtures beside what the server has."""
    tasks = FixtureTasks()
    tools = {**TOOLS, **tasks.tools}

    def before(method: str, params: type[Any], fixture: Callable[[Context, Any], Awaitable[Any]]) -> None:
        """Let a fixture answer a request, and the server's own handler where it returns None."""
        entry = server.get_request_handler(method)

        async def handle(ctx: Context, given: Any) -> HandlerResult:
            answer = await fixture(ctx, given)
            return await entry.handler(ctx, given) if answer is None and entry is not None else answer

        server.add_request_handler(method, params, handle)

    def after(method: str, name: str, more: list[Any]) -> None:
        """Add to a list of the server's."""
        entry = server.get_request_handler(method)
        assert entry is not None

        async def handle(ctx: Context, given: Any) -> HandlerResult:
            own: Any = await entry.handler(ctx, given)
            return own.model_copy(update={name: [*getattr(own, name), *more]})  # type: ignore[no-any-return]

        server.add_request_handler(method, PaginatedRequestParams, handle)

    async def call(ctx: Context, params: CallToolRequestParams) -> HandlerResult:
        return await tools[params.name][1](ctx, params) if params.name in tools else None

    async def read(_: Context, params: ReadResourceRequestParams) -> HandlerResult:
        contents = contents_of(str(params.uri))
        return None if contents is None else ReadResourceResult(contents=[contents])

    async def watch(_: Context, params: SubscribeRequestParams) -> HandlerResult:
        return EmptyResult() if str(params.uri) in RESOURCES else None

    async def get_prompt(_: Context, params: GetPromptRequestParams) -> HandlerResult:
        return prompt_of(params)

    async def complete(_: Context, params: CompleteRequestParams) -> HandlerResult:
        if isinstance(params.ref, PromptReference) and params.ref.name in {one.name for one in PROMPTS}:
            return CompleteResult(completion=Completion(values=[]))
        return None

    async def set_level(_: Context, __: SetLevelRequestParams) -> HandlerResult:
        return EmptyResult()

    async def get_task(_: Context, params: TaskParams) -> HandlerResult:
        return tasks.get(params.task_id)

    async def cancel(_: Context, params: TaskParams) -> HandlerResult:
        return tasks.cancel(params.task_id)

    async def update(_: Context, params: UpdateParams) -> HandlerResult:
        return tasks.update(params.task_id, params.input_responses)

    before("tools/call", CallToolRequestParams, call)
    before("resources/read", ReadResourceRequestParams, read)
    before("resources/subscribe", SubscribeRequestParams, watch)
    before("prompts/get", GetPromptRequestParams, get_prompt)
    before("completion/complete", CompleteRequestParams, complete)
    before("logging/setLevel", SetLevelRequestParams, set_level)
    before("tasks/get", TaskParams, get_task)
    before("tasks/cancel", TaskParams, cancel)
    before("tasks/update", UpdateParams, update)
    listed = [Tool(name=name, description=name, input_schema=schema) for name, (schema, _) in tools.items()]
    after("tools/list", "tools", listed)
    resources = [Resource(uri=uri, name=uri, description=uri, mime_type=kind) for uri, kind in RESOURCES.items()]
    after("resources/list", "resources", resources)
    after("resources/templates/list", "resource_templates", [ResourceTemplate(uri_template=TEMPLATE, name="data")])
    after("prompts/list", "prompts", list(PROMPTS))
    own_schema = server.get_tool_input_schema

    def schema_of(name: str) -> Mapping[str, Any] | None:
        return tools[name][0] if name in tools else own_schema(name) if own_schema is not None else None

    server.get_tool_input_schema = schema_of


def fixture_server(settings: Settings) -> tuple[Server[None], LazyService]:
    """Our server over its service, with the fixtures."""
    events = TaskEvents()
    lazy = LazyService(lambda: open_service(settings, events=events))
    server = build_server(lazy, events=events)
    mount(server)
    return server, lazy


@contextlib.asynccontextmanager
async def fixture_url(folder: Path) -> AsyncIterator[str]:
    """Where it is served over HTTP on this machine while the block lasts."""
    server, lazy = fixture_server(Settings(data_dir=folder / "data", file_roots=(folder,)))
    with contextlib.closing(listening("127.0.0.1", 0)) as listener:
        url = base_url_of(listener) + MCP_PATH
        options = HttpOptions(hosts=hosts_of("127.0.0.1", None, ()), origins=origins_of(None, ()), resource=url)
        admission = Admission(RateLimits(), lambda: "local", max_sessions=100, max_body_bytes=options.max_body_bytes)
        app = HttpApp(server, lazy, options, admission)
        async with serving(app.asgi, listener), app.running():
            yield url


if __name__ == "__main__":
    anyio.run(serve_stdio, fixture_server(read_settings())[0])
