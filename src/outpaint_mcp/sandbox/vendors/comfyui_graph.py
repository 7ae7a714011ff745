"""ComfyUI's check of a graph, and what of it decides the image: by what 0.27.0 answered (November 2026).

The nodes are those of comfyui_nodes.json: as ComfyUI described them, or by the graphs that it accepted.
"""

import functools
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

Graph = Mapping[str, dict[str, Any]]
Choices = Mapping[tuple[str, str], list[str]]


@functools.cache
def nodes() -> dict[str, dict[str, Any]]:
    """The description of every class of node, without model files."""
    found: dict[str, dict[str, Any]] = json.loads((files(__package__) / "comfyui_nodes.json").read_text("utf-8"))
    return found


def described(kind: str, choices: Choices) -> dict[str, Any]:
    """The answer about a class of node: empty for one that is not known."""
    found = json.loads(json.dumps(nodes().get(kind)))
    if found is None:
        return {}
    for part in found["input"].values():
        for name, told in part.items():
            if (kind, name) in choices:
                told[0] = choices[kind, name]
    return {kind: found}


class GraphError(Exception):
    """The whole graph is refused: the ``error`` of the answer, and its ``node_errors``."""

    def __init__(self, kind: str, message: str, details: str = "", extra: Any = None, nodes: Any = None) -> None:
        super().__init__(message)
        self.error = {"type": kind, "message": message, "details": details, "extra_info": extra or {}}
        self.node_errors = nodes or {}


@dataclass(frozen=True, slots=True)
class Checked:
    """The nodes that will run to an end, and what is wrong with the others."""

    outputs: list[str]
    node_errors: dict[str, Any]


def check(graph: Any, choices: Choices, uploads: Collection[str]) -> Checked:
    """What of a graph can run.

    Raises:
        GraphError: nothing can.
        TypeError: it is no graph in the API format.
    """
    if not isinstance(graph, dict) or not all(isinstance(node, dict) for node in graph.values()):
        raise TypeError("no graph")
    for node, told in graph.items():
        kind = told.get("class_type")
        if kind not in nodes():
            raise GraphError(
                "missing_node_type",
                f"Node {kind!r} not found. The custom node may not be installed.",
                f"Node ID '#{node}'",
                {"node_id": node, "class_type": kind, "node_title": told.get("_meta", {}).get("title", kind)},
            )
    outputs = [node for node, told in graph.items() if nodes()[told["class_type"]]["output_node"]]
    if not outputs:
        raise GraphError("prompt_no_outputs", "Prompt has no outputs")
    errors: dict[str, Any] = {}
    good = []
    for output in outputs:
        bad = False
        for node in upstream(graph, output):
            problems = list(_problems(graph, node, choices, uploads))
            if problems:
                bad = True
                kind = graph[node]["class_type"]
                told = errors.setdefault(node, {"errors": problems, "dependent_outputs": [], "class_type": kind})
                told["dependent_outputs"].append(output)
        if not bad:
            good.append(output)
    if not good:
        message = "Prompt outputs failed validation"
        raise GraphError("prompt_outputs_failed_validation", message, nodes=errors)
    return Checked(good, errors)


def upstream(graph: Graph, node: str) -> list[str]:
    """The node and all that it depends on."""
    found = [node]
    for one in found:
        for value in graph[one]["inputs"].values():
            if _is_link(value) and value[0] in graph and value[0] not in found:
                found.append(value[0])
    return found


def _is_link(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)


def _problems(graph: Graph, node: str, choices: Choices, uploads: Collection[str]) -> Iterator[dict[str, Any]]:
    told = graph[node]
    kind, inputs = told["class_type"], told.get("inputs", {})
    for name, (wanted, *more) in nodes()[kind]["input"].get("required", {}).items():
        config = [wanted, more[0] if more else {}]
        extra: dict[str, Any] = {"input_name": name, "input_config": config}
        if name not in inputs:
            yield _problem("required_input_missing", "Required input is missing", name, {"input_name": name})
            continue
        value = inputs[name]
        if _is_link(value):
            if value[0] not in graph:
                details = repr(value[0])
                yield _problem(
                    "exception_during_inner_validation", "Exception when validating inner node", details, extra
                )
                continue
            given = nodes()[graph[value[0]]["class_type"]]["output"]
            received = given[value[1]] if value[1] < len(given) else None
            if received != wanted:
                details = f"{name}, received_type({received}) mismatch input_type({wanted})"
                yield _problem("return_type_mismatch", "Return type mismatch between linked nodes", details, extra)
            continue
        yield from _value_problems(kind, name, value, wanted, more[0] if more else {}, extra, choices, uploads)


def _value_problems(
    kind: str,
    name: str,
    value: Any,
    wanted: Any,
    limits: Mapping[str, Any],
    extra: dict[str, Any],
    choices: Choices,
    uploads: Collection[str],
) -> Iterator[dict[str, Any]]:
    extra = {**extra, "received_value": value}
    if kind.startswith("LoadImage") and name == "image":
        if value not in uploads:
            details = f"image - Invalid image file: {value}"
            yield _problem(
                "custom_validation_failed", "Custom validation failed for node", details, {"input_name": name}
            )
    elif isinstance(wanted, list):
        listed = choices.get((kind, name), wanted)
        if value not in listed:
            yield _problem("value_not_in_list", "Value not in list", f"{name}: {value!r} not in {listed}", extra)
    elif wanted in ("INT", "FLOAT"):
        convert: Callable[[Any], float] = int if wanted == "INT" else float
        try:
            number = convert(value)
        except (TypeError, ValueError) as error:
            message = f"Failed to convert an input value to a {wanted} value"
            yield _problem("invalid_input_type", message, f"{name}, {value}, {error}", extra)
            return
        if "min" in limits and number < limits["min"]:
            message = f"Value {value} smaller than min of {limits['min']}"
            yield _problem("value_smaller_than_min", message, name, extra)
        if "max" in limits and number > limits["max"]:
            yield _problem("value_bigger_than_max", f"Value {value} bigger than max of {limits['max']}", name, extra)
    elif wanted not in ("STRING", "BOOLEAN"):
        yield _problem("required_input_missing", "Required input is missing", name, {"input_name": name})


def _problem(kind: str, message: str, details: str, extra: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": kind, "message": message, "details": details, "extra_info": dict(extra)}


def signature(graph: Graph, output: str) -> str:
    """What the image of an output node depends on: equal ones are drawn once, and served from the cache then."""
    parts = {node: [graph[node]["class_type"], graph[node]["inputs"]] for node in upstream(graph, output)}
    return json.dumps(parts, sort_keys=True)


def steps(graph: Graph, output: str) -> tuple[str, int]:
    """The sampler that an output's image comes from, and its steps."""
    for node in upstream(graph, output):
        inputs = graph[node]["inputs"]
        if isinstance(inputs.get("steps"), int):
            return node, inputs["steps"]
    return output, 1
