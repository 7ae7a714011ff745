"""What the tools take: one model per tool, from which its schema is made and by which every call is checked.

The schema is kept flat and small for the model that reads it: no unions, no titles, no nulls (a null counts as absent).
"""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Final, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from outpaint_mcp.domain import values
from outpaint_mcp.domain.errors import InvalidRequestError
from outpaint_mcp.domain.references import bare
from outpaint_mcp.domain.request import (
    AUTO,
    MAX_IMAGE_INDEX,
    MAX_PROMPT,
    MAX_WAIT_SECONDS,
    MAX_ZOOM,
    MIN_ZOOM,
    PROVIDER_ARGUMENTS,
    SIDES,
    AspectRatio,
    OutpaintRequest,
    Side,
    Speed,
    Webhook,
    WebhookEvent,
    default_zoom,
)
from outpaint_mcp.server.refusals import refusal

MAX_ID = 256
MAX_URL = 2048
MAX_IMAGE = 70_000_000
"""Characters: the 50 MB that an image may have, as a data: URI."""

IMAGE_FORMS: Final = "http(s) URL, file path or data: URI"
"""How an image can be given; without its path by clients that share no files with the server."""

ArgumentsT = TypeVar("ArgumentsT", bound="ToolArguments")


class ToolArguments(BaseModel):
    """Unknown arguments are refused; null, empty text and empty lists stand for an argument that is not given.

    Models send these where a library makes every argument required for them. A field's `examples` are for the refusal
    of other values; the first is shown.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _without_the_absent(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        return {name: value for name, value in data.items() if not (value is None or value in ("", [], {}))}


def _json(value: Any) -> Any:
    # Some hosts hand objects and lists over as JSON text.
    if isinstance(value, str):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _image(value: Any) -> Any:
    # A chat's message holds an image as an object, which is read as its text is.
    return json.dumps(value) if isinstance(value, dict | list) else value


def _speed(value: Any) -> Any:
    return values.choice(value, get_args(Speed))


def _events(value: Any) -> Any:
    found = _json(value)
    listed = found.replace(",", " ").split() if isinstance(found, str) else found
    if not isinstance(listed, list | tuple):
        return None if listed is None else value
    return [values.choice(one, get_args(WebhookEvent)) for one in listed if one not in (None, "")] or None


def _object(value: Any) -> Any:
    found = _json(value)
    return {} if found is None or found in ("", []) else found


class OutpaintArguments(ToolArguments):
    task_id: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=MAX_ID,
            description="Finished task to extend: op-... id, or a provider's own id",
            examples=["op-..."],
        ),
    ] = None
    image: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=MAX_IMAGE,
            description=f"Or an image to extend: {IMAGE_FORMS}. Exactly one of task_id, image",
            examples=["https://example.com/image.png"],
        ),
        BeforeValidator(_image),
    ] = None
    provider: Annotated[
        str,
        Field(min_length=1, max_length=64, description="auto, or a name from list_providers such as local"),
        BeforeValidator(values.name),
    ] = AUTO
    image_index: Annotated[
        int | None,
        Field(
            ge=1,
            le=MAX_IMAGE_INDEX,
            description="Which image of a four-image task, left to right, top to bottom",
            examples=[1],
        ),
        BeforeValidator(values.whole),
    ] = None
    zoom: Annotated[
        float | None,
        Field(
            ge=MIN_ZOOM,
            le=MAX_ZOOM,
            description="How many times wider and taller the new image is; default 2, or 1 with aspect_ratio",
            examples=[1.5],
        ),
        BeforeValidator(values.zoom),
    ] = None
    aspect_ratio: Annotated[
        str | None,
        Field(
            pattern=AspectRatio.PATTERN,
            description="W:H of the new image, such as 16:9; zoom 1 with 1:1 makes it square",
            examples=["16:9, 1:1 or 9:16"],
        ),
        BeforeValidator(values.aspect_ratio),
    ] = None
    sides: Annotated[
        tuple[Side, ...] | None,
        Field(
            max_length=len(SIDES),
            description='Where to add area, such as ["left"]; default all four. zoom then grows only along these',
            examples=[["left"]],
        ),
        BeforeValidator(values.sides),
    ] = None
    prompt: Annotated[
        str | None, Field(min_length=1, max_length=MAX_PROMPT, description="What to paint in the new area")
    ] = None
    speed: Annotated[
        Speed | None, Field(description="Faster may cost more; not every provider has it"), BeforeValidator(_speed)
    ] = None
    webhook_url: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=MAX_URL,
            description="URL that the provider calls when it is done",
            examples=["https://example.com/done"],
        ),
    ] = None
    webhook_secret: Annotated[
        str | None, Field(min_length=1, max_length=MAX_ID, description="Secret that the provider sends along to it")
    ] = None
    webhook_events: Annotated[
        tuple[WebhookEvent, ...] | None,
        Field(min_length=1, max_length=3, description="Which events it is called for", examples=[["completed"]]),
        BeforeValidator(_events),
    ] = None
    provider_options: Annotated[
        dict[str, Any],
        Field(
            default_factory=dict,
            description="Further fields for the provider as they are; see list_providers",
            examples=[{"seed": 7}],
        ),
        BeforeValidator(_object),
    ]
    wait_seconds: Annotated[
        float | None,
        Field(
            ge=0,
            le=MAX_WAIT_SECONDS,
            description="Return after this long even if it is not finished; leave it out if calls time out",
            examples=[25],
        ),
        BeforeValidator(values.seconds),
    ] = None
    repeat: Annotated[
        bool,
        Field(description="Order and pay again though the same order was placed before; only if the user asks"),
        BeforeValidator(values.flag),
    ] = False

    def request(self) -> OutpaintRequest:
        """The arguments as a request.

        Raises:
            InvalidRequestError: a webhook's secret or events without its URL; an id of spaces.
        """
        webhook = None
        if self.webhook_url is not None:
            webhook = Webhook(self.webhook_url, self.webhook_secret, tuple(dict.fromkeys(self.webhook_events or ())))
        elif self.webhook_secret is not None or self.webhook_events is not None:
            raise InvalidRequestError(
                "webhook_secret and webhook_events go with webhook_url.", "Give webhook_url too, or leave them out."
            )
        passed = {name: getattr(self, name) for name in PROVIDER_ARGUMENTS}
        passed["aspect_ratio"] = None if self.aspect_ratio is None else AspectRatio.parse(self.aspect_ratio)
        if self.sides is not None:
            named = tuple(side for side in SIDES if side in self.sides)
            passed["sides"] = None if named == SIDES else named
        return OutpaintRequest(
            task_id=None if self.task_id is None else _id(self.task_id),
            image=None if self.image is None else self.image.strip(),
            provider=self.provider,
            image_index=self.image_index,
            zoom=default_zoom(self.aspect_ratio) if self.zoom is None else float(self.zoom),
            webhook=webhook,
            provider_options=self.provider_options,
            repeat=self.repeat,
            **passed,
        )


class GetTaskArguments(ToolArguments):
    task_id: Annotated[
        str,
        Field(
            min_length=1,
            max_length=MAX_ID,
            description="An op-... id, or a provider's own id with provider",
            examples=["op-..."],
        ),
    ]
    provider: Annotated[
        str | None,
        Field(min_length=1, max_length=64, description="Whose id it is, if it is a provider's own"),
        BeforeValidator(values.name),
    ] = None
    wait_seconds: Annotated[
        float,
        Field(ge=0, le=MAX_WAIT_SECONDS, description="Wait up to this long for the task to be finished", examples=[25]),
        BeforeValidator(values.seconds),
    ] = 0

    def named(self) -> tuple[str, str | None]:
        """The id, and the provider whose id it is said to be; None where it is not said.

        Raises:
            InvalidRequestError: an id of spaces.
        """
        return _id(self.task_id), None if self.provider == AUTO else self.provider


class ListProvidersArguments(ToolArguments):
    """None."""


def _id(text: str) -> str:
    found = bare(text)
    if not found:
        raise InvalidRequestError("The task_id is empty.", "Give an id as outpaint returned it (op-...).")
    return found


def checked(model: type[ArgumentsT], arguments: Mapping[str, Any]) -> ArgumentsT:
    """The arguments of a call.

    Raises:
        InvalidRequestError: they are not the tool's; every problem in a sentence.
    """
    try:
        return model.model_validate(arguments)
    except ValidationError as error:
        raise refusal(error, model.model_fields, _compact(model.model_json_schema())["properties"]) from None


def input_schema(model: type[ToolArguments], *, paths: bool = True) -> dict[str, Any]:
    """The JSON schema of a tool's arguments, without titles, unions and model names.

    It has no patterns and examples: more forms of a value are taken than a pattern tells. Nor does it say that further
    arguments are refused: google-genai for Python reads `additionalProperties` as a schema (3.6.1, November 2026). What
    may be left out is `nullable`, without which smolagents demands it (1.26.0); JSON Schema ignores that keyword, and
    Gemini's subset of it has it. Without `paths` it offers no file's path.
    """
    schema: dict[str, Any] = _compact(model.model_json_schema())
    for unwanted in ("description", "additionalProperties"):
        schema.pop(unwanted, None)
    for name, argument in schema.get("properties", {}).items():
        argument.pop("examples", None)
        argument.pop("pattern", None)
        if not paths:
            forms = "http(s) URL or data: URI"
            argument["description"] = argument["description"].replace(IMAGE_FORMS, forms)
        if name not in schema.get("required", []):
            argument["nullable"] = True
    return schema


def output_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of a tool's structured result, without titles, defaults and docstrings."""
    schema: dict[str, Any] = _without_prose(_compact(model.model_json_schema(mode="serialization"), nulls=True))
    return schema


def _without_prose(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema without the descriptions of models, which speak of the code; those of fields stay."""
    for one in (schema, *schema.get("$defs", {}).values()):
        one.pop("description", None)
        for field in one.get("properties", {}).values():
            field.pop("default", None)
    return schema


def _compact(node: Any, *, nulls: bool = False) -> Any:
    """A schema without titles and unions; with `nulls`, what may be null says so in its type."""
    if isinstance(node, list):
        return [_compact(item, nulls=nulls) for item in node]
    if not isinstance(node, dict):
        return node
    out = {
        key: _compact(value, nulls=nulls)
        for key, value in node.items()
        if not (key == "title" and isinstance(value, str))
    }
    choices = out.pop("anyOf", None)
    if choices is not None:
        (choice,) = (one for one in choices if one != {"type": "null"})
        if nulls and "type" in choice:
            choice["type"] = [choice["type"], "null"]
        out = {"anyOf": choices, **out} if nulls and "type" not in choice else {**choice, **out}
    if "default" in out and out["default"] in (None, {}):
        del out["default"]
    if out.get("type") == "object" and out.get("additionalProperties") is True:
        del out["additionalProperties"]
    return out
