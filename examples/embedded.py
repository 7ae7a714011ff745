"""outpaint-mcp inside an application of your own: an MCP endpoint beside your pages.

Run it with ``uvicorn examples.embedded:app``; MCP clients then connect to http://127.0.0.1:8000/mcp.
"""

import contextlib
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from outpaint_mcp import Front, Settings, create_server


def application(settings: Settings | None = None) -> Starlette:
    """An application with an MCP endpoint at ``/mcp`` and a page at ``/``.

    Args:
        settings: by default the environment's.
    """
    server = create_server(settings, front=Front.HTTP)
    mcp = server.streamable_http_app()

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with server.session_manager.run():
            yield

    async def home(_: Request) -> PlainTextResponse:
        return PlainTextResponse("My application. MCP is at /mcp.")

    return Starlette(routes=[Route("/", home), Mount("/", mcp)], lifespan=lifespan)


app = application()
