"""The resources: the providers, the recent tasks, one task, and the bytes of one image."""

import base64
import re
from collections.abc import Callable
from typing import Any, Final

from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    BlobResourceContents,
    ListResourcesResult,
    ListResourceTemplatesResult,
    PaginatedRequestParams,
    ReadResourceRequestParams,
    ReadResourceResult,
    Resource,
    ResourceTemplate,
    TextResourceContents,
)

from outpaint_mcp.domain.errors import OutpaintError, UnknownTaskError
from outpaint_mcp.images.small_copy import SCREEN
from outpaint_mcp.server.lazy_service import LazyService
from outpaint_mcp.server.text import ProviderList
from outpaint_mcp.server.view import VIEW, view_contents

PROVIDERS, TASKS = "outpaint://providers", "outpaint://tasks"
TASK_URI: Final = re.compile(r"outpaint://tasks/([^/]+)")
IMAGE_URI: Final = re.compile(r"outpaint://tasks/([^/]+)/images/([^/]+)(/screen)?")
TASK_TEMPLATE: Final = "outpaint://tasks/{id}"
IMAGE_TEMPLATE: Final = "outpaint://tasks/{id}/images/{index}"
SCREEN_TEMPLATE: Final = f"{IMAGE_TEMPLATE}/screen"
_JSON: Final = "application/json"


class Resources:
    """Lists and reads the resources.

    Args:
        lazy: the service.
        client_of: who makes the current request; nobody can read another's task.
    """

    def __init__(self, lazy: LazyService, client_of: Callable[[], str]) -> None:
        self._lazy = lazy
        self._client_of = client_of

    async def list(self, _: ServerRequestContext[Any, Any], __: PaginatedRequestParams | None) -> ListResourcesResult:
        return ListResourcesResult(
            resources=[
                Resource(
                    uri=PROVIDERS,
                    name="providers",
                    title="Providers",
                    description="Which providers can extend images, with limits and prices",
                    mime_type=_JSON,
                ),
                Resource(
                    uri=TASKS,
                    name="tasks",
                    title="Recent tasks",
                    description="The newest tasks, newest first",
                    mime_type=_JSON,
                ),
            ]
        )

    async def list_templates(
        self, _: ServerRequestContext[Any, Any], __: PaginatedRequestParams | None
    ) -> ListResourceTemplatesResult:
        return ListResourceTemplatesResult(
            resource_templates=[
                ResourceTemplate(
                    uri_template=TASK_TEMPLATE,
                    name="task",
                    title="Task",
                    description="One task; can be watched",
                    mime_type=_JSON,
                ),
                ResourceTemplate(
                    uri_template=IMAGE_TEMPLATE,
                    name="image",
                    title="Image of a task",
                    description="The bytes of one image, also after the provider's URL has died",
                    mime_type="image/png",
                ),
                ResourceTemplate(
                    uri_template=SCREEN_TEMPLATE,
                    name="screen",
                    title="Image for a screen",
                    description=f"The same, at most {SCREEN.side} pixels wide and high",
                    mime_type="image/jpeg",
                ),
            ]
        )

    async def read(self, _: ServerRequestContext[Any, Any], params: ReadResourceRequestParams) -> ReadResourceResult:
        uri = str(params.uri)
        try:
            contents = await self._contents(uri)
        except UnknownTaskError as error:
            raise MCPError(INVALID_PARAMS, str(error), {"uri": uri}) from error
        except OutpaintError as error:
            raise MCPError(INTERNAL_ERROR, str(error), {"uri": uri}) from error
        return ReadResourceResult(contents=[contents])

    async def _contents(self, uri: str) -> TextResourceContents | BlobResourceContents:
        """
        Raises:
            UnknownTaskError: there is no such resource.
            OutpaintError: it cannot be read.
        """
        client = self._client_of()
        if uri == VIEW:
            return view_contents()
        if uri == PROVIDERS:
            found = ProviderList(providers=await (await self._lazy.get()).list_providers())
            return TextResourceContents(uri=uri, text=found.model_dump_json(), mime_type=_JSON)
        if uri == TASKS:
            recent = await (await self._lazy.get()).recent(client=client)
            text = "[" + ",".join(task.model_dump_json() for task in recent) + "]"
            return TextResourceContents(uri=uri, text=text, mime_type=_JSON)
        if (match := TASK_URI.fullmatch(uri)) is not None:
            task = await (await self._lazy.get()).get_task(match[1], client=client)
            return TextResourceContents(uri=uri, text=task.model_dump_json(), mime_type=_JSON)
        if (match := IMAGE_URI.fullmatch(uri)) is not None:
            if re.fullmatch(r"[0-9]{1,3}", match[2]) is None:
                raise UnknownTaskError(
                    f"A task has no image {match[2][:20]!r}.", "Number them from 1, as the task's resource_uri does."
                )
            small = SCREEN if match[3] else None
            service = await self._lazy.get()
            data, mime_type = await service.image(match[1], int(match[2]), client=client, small=small)
            return BlobResourceContents(uri=uri, blob=base64.b64encode(data).decode(), mime_type=mime_type)
        raise UnknownTaskError(
            f"There is no resource {uri[:200]!r}.", "Give one such as outpaint://tasks or outpaint://tasks/ID."
        )
