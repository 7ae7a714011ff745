"""How ComfyUI's answers are read: the end of a prompt, its place in the queue, its refusals. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

import outpaint_mcp.providers as api

PREFIX: Final = "outpaint-mcp/"
"""What the names begin with that our files are saved under."""
_PATHS: Final = re.compile(r"(?:[A-Za-z]:)?[\\/](?:[^\\/\s'\"]+[\\/])+")
_MEMORY: Final = re.compile(r"out ?of ?memory|allocation on device", re.IGNORECASE)
_FREE_MEMORY: Final = (
    "Have the operator free memory or choose a smaller model; a smaller image or zoom, or fewer variants, take less."
)
_EXPORT_AGAIN: Final = "Have the operator repair the graph and export it again, or unset COMFYUI_WORKFLOW."
_MODEL: Final = "Have the operator put the file there (outpaint-mcp doctor says where), or choose another."
KINDS: Final[Mapping[str, tuple[type[api.OutpaintError], str | None]]] = {
    "missing_node_type": (
        api.ConfigurationError,
        "Have the operator install the node's package, update ComfyUI, or take another workflow.",
    ),
    "value_not_in_list": (api.ConfigurationError, _MODEL),
    "custom_validation_failed": (api.ProviderUnavailableError, "Nothing was ordered. Order again."),
    "value_smaller_than_min": (api.InvalidRequestError, None),
    "value_bigger_than_max": (api.InvalidRequestError, None),
    "invalid_input_type": (api.InvalidRequestError, None),
    "required_input_missing": (api.ConfigurationError, _EXPORT_AGAIN),
    "return_type_mismatch": (api.ConfigurationError, _EXPORT_AGAIN),
    "exception_during_inner_validation": (api.ConfigurationError, _EXPORT_AGAIN),
    "prompt_no_outputs": (api.ConfigurationError, _EXPORT_AGAIN),
    "no_prompt": (api.UnexpectedResponseError, None),
    "invalid_prompt_id": (api.UnexpectedResponseError, None),
    # 0.3.64 says so of a node that it does not have.
    "invalid_prompt": (api.ConfigurationError, _EXPORT_AGAIN),
}
"""What each type of refusal means here, of the prompt or of one of its nodes."""


def refusal(title: str, body: Any) -> api.OutpaintError | None:
    """The error that the answer to a prompt means; None if it is none, or says nothing of nodes that save our image.

    It may come with a 200: then the other nodes run.
    """
    if not isinstance(body, dict):
        return None
    said = body.get("error")
    whole = said if isinstance(said, dict) else {}
    graph_failed = bool(whole)
    problems = [problem for problem in _problems(body.get("node_errors")) if graph_failed or problem.of_ours]
    if not graph_failed and not problems:
        return None
    found = next((one for one in problems if one.kind in KINDS), None)
    kind = found.kind if found is not None else str(whole.get("type") or "")
    words = found.words if found is not None else _text(whole, "message") or _text(whole, "details")
    error, advice = KINDS.get(kind, (api.UnexpectedResponseError, None))
    return api.rejection(error, title, {"message": without_paths(words), "code": kind or None}, advice)


@dataclass(frozen=True, slots=True)
class _Problem:
    """What is wrong with one node; `of_ours` if one of the nodes that save our image depends on it."""

    kind: str
    words: str
    of_ours: bool


def _problems(node_errors: Any) -> list[_Problem]:
    found = []
    for told in node_errors.values() if isinstance(node_errors, dict) else ():
        if not isinstance(told, dict) or not isinstance(told.get("errors"), list):
            continue
        for error in told["errors"]:
            if isinstance(error, dict):
                where = _text(told, "class_type")
                words = ": ".join(filter(None, (where, _text(error, "message"), _text(error, "details"))))
                found.append(_Problem(_text(error, "type"), words, bool(told.get("dependent_outputs"))))
    return found


def _text(told: Mapping[str, Any], name: str) -> str:
    value = told.get(name)
    return value.strip() if isinstance(value, str) else ""


def without_paths(text: str) -> str:
    """A text of the engine's without the folders of its machine."""
    return _PATHS.sub("", text)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a prompt ended: `word` is success, error or interrupted; `paths` are where its images are fetched."""

    word: str
    reason: str = ""
    advice: str = ""
    code: str | None = None
    paths: tuple[str, ...] = ()


def ended_of(entry: Mapping[str, Any]) -> Ended | None:
    """What an entry of the history says; None if it says nothing that is known.

    Before it has ended a prompt has no entry.
    """
    status = entry.get("status")
    if status is None and entry.get("outputs"):
        return Ended("success", paths=_paths(entry))
    status = status if isinstance(status, dict) else {}
    messages = {one[0]: one[1] for one in status.get("messages") or () if _is_message(one)}
    if "execution_interrupted" in messages:
        return Ended("interrupted")
    match status.get("status_str"):
        case "success":
            return Ended("success", paths=_paths(entry))
        case "error":
            return _failed(messages.get("execution_error", {}))
    return None


def _is_message(one: Any) -> bool:
    return isinstance(one, list) and len(one) == 2 and isinstance(one[0], str) and isinstance(one[1], dict)


def _failed(told: Mapping[str, Any]) -> Ended:
    kind, message = _text(told, "exception_type"), without_paths(_text(told, "exception_message"))
    where = _text(told, "node_type")
    words = ": ".join(filter(None, (where, message or kind)))
    advice = _FREE_MEMORY if _MEMORY.search(f"{kind} {message}") else ""
    return Ended("error", words, advice, kind.rpartition(".")[2] or None)


def _paths(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """Where the images are that our nodes saved, in the order of the variants; those of any node if it is not ours."""
    outputs = entry.get("outputs")
    outputs = outputs if isinstance(outputs, dict) else {}
    found = []
    for node in _savers(entry) or outputs:
        told = outputs.get(node)
        images = told.get("images") if isinstance(told, dict) else None
        for image in images if isinstance(images, list) else ():
            if isinstance(image, dict) and _text(image, "filename") and image.get("type") == "output":
                query = {name: _text(image, name) for name in ("filename", "subfolder", "type")}
                found.append(f"/view?{urlencode(query)}")
    return tuple(found)


def _savers(entry: Mapping[str, Any]) -> list[str]:
    """The nodes that save under our prefix."""
    match entry.get("prompt"):
        case [_, _, dict(graph), *_]:
            return [node for node, told in graph.items() if _saves_ours(told)]
    return []


def _saves_ours(told: Any) -> bool:
    inputs = told.get("inputs") if isinstance(told, dict) else None
    return isinstance(inputs, dict) and str(inputs.get("filename_prefix", "")).startswith(PREFIX)


@dataclass(frozen=True, slots=True)
class Queued:
    """A prompt in the queue: how many go before it, 0 if it runs, and how many images of ours it saves."""

    place: int
    images: int


def queued(body: Any, prompt_id: str) -> Queued | None:
    """Where a prompt is in the queue; None if it is not there.

    Raises:
        ValueError: it is no queue.
    """
    parts = [body.get(name) if isinstance(body, dict) else None for name in ("queue_running", "queue_pending")]
    if not all(isinstance(part, list) for part in parts):
        raise ValueError("no queue")
    running, pending = ([one for one in part or () if _is_queued(one)] for part in parts)
    ordered = [*running, *sorted(pending, key=lambda one: one[0])]
    for place, one in enumerate(ordered):
        if one[1] == prompt_id:
            # One that waits is never in the first place, though nothing may run at this moment.
            place = 0 if one in running else max(place, 1)
            return Queued(place, len(_savers({"prompt": one})))
    return None


def _is_queued(one: Any) -> bool:
    return isinstance(one, list) and len(one) > 1 and isinstance(one[0], int | float) and isinstance(one[1], str)
