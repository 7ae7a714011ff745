"""The prompts: what a user picks from a host's menu; each has the model place one order and wait for its task."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    GetPromptRequestParams,
    GetPromptResult,
    ListPromptsResult,
    PaginatedRequestParams,
    Prompt,
    PromptArgument,
    PromptMessage,
    TextContent,
)

from outpaint_mcp.domain import values
from outpaint_mcp.domain.errors import InvalidRequestError
from outpaint_mcp.domain.references import TaskReference
from outpaint_mcp.server.arguments import MAX_URL, OutpaintArguments, checked

LEAST_PERCENT, MOST_PERCENT = 5, 100
"""What `amount` may be. Below it is rather a factor (2, 1.5) than a percentage."""
WIDESCREEN: Final = "16:9"
_PATH: Final = ", file path"

_DESCRIPTIONS: Final = {
    "image": f"The image to extend: URL{_PATH}, or id (op-...) of a finished task",
    "zoom": "How many times wider and taller it becomes: 1 to 2, default 2",
    "aspect_ratio": f"Width to height of the new image; default {WIDESCREEN}",
    "sides": "Where to add space: left, right, top, bottom, several with commas",
    "amount": f"How much to add, in percent of the image: {LEAST_PERCENT} to {MOST_PERCENT}, default 50",
    "provider": "Who extends it; by default the server chooses",
    "prompt": "What to paint in the new area",
}


@dataclass(frozen=True, slots=True)
class _Template:
    """A prompt: its own arguments beside the common ones, and the `outpaint` arguments that they are added to."""

    title: str
    task: str
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    order: Mapping[str, Any] = field(default_factory=dict)

    @property
    def arguments(self) -> dict[str, bool]:
        """The names, in the order in which hosts ask for them, and whether each is required."""
        required = dict.fromkeys(("image", *self.required), True)
        return required | dict.fromkeys((*self.optional, "provider", "prompt"), False)


TEMPLATES: Final[Mapping[str, _Template]] = {
    "zoom_out": _Template("Zoom out", "Extend this image on all sides.", optional=("zoom",), order={"zoom": 2}),
    "make_square": _Template(
        "Make square", "Make this image square by extending it.", order={"zoom": 1, "aspect_ratio": "1:1"}
    ),
    "widescreen": _Template(
        "Make widescreen",
        "Extend this image to a wide format.",
        optional=("aspect_ratio",),
        order={"aspect_ratio": WIDESCREEN},
    ),
    "add_space": _Template(
        "Add space",
        "Add space to this image on the named sides.",
        required=("sides",),
        optional=("amount",),
        order={"zoom": 1.5},
    ),
}

_MESSAGE: Final = """\
{task} Call the tool outpaint once, with exactly these arguments:

{arguments}

If the result says "Not finished", call get_task with the task's id until the task is final; get_task is free. Then \
show me the images, or tell me what went wrong.
An order may cost money. Do not call outpaint with any other arguments and do not set repeat: if the order is refused, \
fails or is unknown, tell me and let me decide. Only if the call breaks off without a result, make exactly the same \
call again: it finds the task."""


class Prompts:
    """Lists the prompts and writes their messages; needs no service.

    Args:
        paths: whether clients share this machine's files, so that an image can be given by its path.
    """

    def __init__(self, *, paths: bool = True) -> None:
        self._paths = paths

    async def list(self, _: ServerRequestContext[Any, Any], __: PaginatedRequestParams | None) -> ListPromptsResult:
        return ListPromptsResult(prompts=[self._prompt(name, template) for name, template in TEMPLATES.items()])

    async def get(self, _: ServerRequestContext[Any, Any], params: GetPromptRequestParams) -> GetPromptResult:
        """
        Raises:
            MCPError: there is no such prompt, or its arguments are not right.
        """
        try:
            template = template_of(params.name)
            order = _order(template, params.arguments or {})
        except InvalidRequestError as error:
            raise MCPError(INVALID_PARAMS, str(error), {"name": params.name[:200]}) from error
        text = _MESSAGE.format(task=template.task, arguments=json.dumps(order, ensure_ascii=False))
        message = PromptMessage(role="user", content=TextContent(type="text", text=text))
        return GetPromptResult(description=template.task, messages=[message])

    def _prompt(self, name: str, template: _Template) -> Prompt:
        def described(argument: str) -> str:
            return _DESCRIPTIONS[argument] if self._paths else _DESCRIPTIONS[argument].replace(_PATH, "")

        return Prompt(
            name=name,
            title=template.title,
            description=template.task,
            arguments=[
                PromptArgument(name=argument, description=described(argument), required=required)
                for argument, required in template.arguments.items()
            ],
        )


def template_of(name: str) -> _Template:
    """
    Raises:
        InvalidRequestError: there is no such prompt.
    """
    found = TEMPLATES.get(name)
    if found is None:
        raise InvalidRequestError("There is no such prompt.", f"The prompts are {', '.join(TEMPLATES)}.")
    return found


def _order(template: _Template, given: Mapping[str, str]) -> dict[str, Any]:
    """The arguments of `outpaint`.

    Raises:
        InvalidRequestError: an argument is missing, unknown, or not what it must be.
    """
    known = template.arguments
    if unknown := [name for name in given if name not in known]:
        raise InvalidRequestError(
            f"There is no argument {unknown[0][:60]!r}.", f"The arguments are {', '.join(known)}."
        )
    # Hosts send what was left empty in a form as empty text.
    order: dict[str, Any] = {name: text.strip() for name, text in given.items() if text.strip()}
    if missing := [name for name, required in known.items() if required and name not in order]:
        raise InvalidRequestError(
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing.",
            "; ".join(f"{name}: {_DESCRIPTIONS[name]}" for name in missing).replace(_PATH, "") + ".",
        )
    if len(order["image"]) > MAX_URL:
        raise InvalidRequestError(
            f"image has more than {MAX_URL} characters, which a model cannot be asked to copy.",
            "Give the image's URL or the id of a task, such as op-....",
        )
    if (amount := order.pop("amount", None)) is not None:
        order["zoom"] = (100 + _percent(amount)) / 100
    reference = TaskReference.of(order["image"])
    if reference is not None:
        del order["image"]
        order = {"task_id": reference.task_id, "image_index": reference.image_index, **order}
    order = checked(OutpaintArguments, {**template.order, **order}).model_dump(mode="json", exclude_defaults=True)
    if "sides" in known and "sides" not in order:
        order["sides"] = ["left", "right", "top", "bottom"]
    return order


def _percent(text: str) -> int:
    """
    Raises:
        InvalidRequestError: it is no whole number of percent within the limits.
    """
    found = values.whole(text.removesuffix("%").rstrip())
    if not isinstance(found, int) or not LEAST_PERCENT <= found <= MOST_PERCENT:
        raise InvalidRequestError(
            f"amount must be a whole number of percent from {LEAST_PERCENT} to {MOST_PERCENT}.",
            "Give 50 for half as much again.",
        )
    return found
