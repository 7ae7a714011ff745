"""A graph in ComfyUI's API format, and what is set in it: the operator's own, with marked nodes, or a built-in one.

Marks are titles of nodes, which the export keeps (docs.comfy.org, August 2026).
"""

import copy
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Self

from outpaint_mcp.providers import ConfigurationError, UnsupportedFeatureError

Graph = dict[str, dict[str, Any]]
Choices = Mapping[tuple[str, str], tuple[str, ...]]
"""The files that a server lists, by class of node and name of the input."""

EXPORT: Final = "Export it with File > Export Workflow (API), and name that file."
_MARK: Final = re.compile(r"outpaint:([a-z]+)\b", re.IGNORECASE)
_MARKS: Final = ("image", "mask", "prompt", "negative", "seed", "steps", "denoise", "model", "result")
_TEXTS: Final = ("text", "prompt")
_SEEDS: Final = ("seed", "noise_seed")
_MODELS: Final = ("ckpt_name", "unet_name")
MAX_GRAPH_BYTES: Final = 2_000_000


@dataclass(frozen=True, slots=True)
class File:
    """A model file that a graph needs: who loads it, how it is known, its official name, and where it belongs."""

    node: str
    loader: str
    input: str
    pattern: str
    official: str
    folder: str
    without: str = r"(?!)"

    def among(self, choices: Choices) -> str | None:
        """The first such file that the server has."""
        for name in choices.get((self.loader, self.input), ()):
            if re.search(self.pattern, name, re.IGNORECASE) and not re.search(self.without, name, re.IGNORECASE):
                return name
        return None

    @property
    def advice(self) -> str:
        return f"{self.official} in models/{self.folder}"


@dataclass(frozen=True, slots=True)
class Workflow:
    """A graph with what is set in it: the ids of its nodes by their marks.

    Its canvas has `min_pixels` to `max_pixels`.
    """

    name: str
    graph: Graph = field(repr=False)
    nodes: Mapping[str, str]
    files: tuple[File, ...] = ()
    max_pixels: int = 1_048_576
    min_pixels: int = 700_000

    def with_files(self, choices: Choices, model: str | None = None) -> "tuple[Workflow, list[File]]":
        """The graph with the files that the server has, and those that it lacks. `model` goes before the first file."""
        graph, missing = copy.deepcopy(self.graph), []
        for place, one in enumerate(self.files):
            named = model if place == 0 and model is not None else one.among(choices)
            if named is None:
                missing.append(one)
            else:
                graph[one.node]["inputs"][one.input] = named
        return replace(self, graph=graph), missing

    @property
    def model(self) -> str:
        """The model file that it loads; empty where no node is known for that."""
        node, name = self._input("model")
        return str(self.graph[node]["inputs"].get(name, "")) if node else ""

    def check(self, values: Mapping[str, Any]) -> None:
        """Refuse what there is no node for.

        Raises:
            UnsupportedFeatureError: with the values' marks.
        """
        for mark, value in values.items():
            if value is not None and mark not in self.nodes:
                name = "negative_prompt" if mark == "negative" else mark
                advice = f"Leave {name} out" + ("." if self.files else f", or title the node for it outpaint:{mark}.")
                raise UnsupportedFeatureError(f"The workflow {self.name} has no node for {name}.", advice)

    def filled(self, values: Mapping[str, Any], variants: int = 1) -> Graph:
        """The graph with these values at its marks; what has none keeps its own. Each variant has the next seed."""
        graph = copy.deepcopy(self.graph)
        for mark, value in values.items():
            node, name = self._input(mark)
            if value is not None and node:
                graph[node]["inputs"][name] = value
        for copied in range(1, variants):
            _add_variant(graph, self, copied)
        return graph

    def _input(self, mark: str) -> tuple[str, str]:
        """The node and the name of its input that a mark is about; empty where there is none."""
        node = self.nodes.get(mark, "")
        names = {
            "image": ("image",),
            "mask": ("image",),
            "prompt": _TEXTS,
            "negative": _TEXTS,
            "seed": _SEEDS,
            "steps": ("steps",),
            "denoise": ("denoise",),
            "model": _MODELS,
            "result": ("filename_prefix",),
        }[mark]
        inputs = self.graph[node]["inputs"] if node else {}
        return node, next((name for name in names if name in inputs), names[0])

    @property
    def mask_is_apart(self) -> bool:
        """Whether the mask is loaded as a picture of its own, and not as the alpha of the canvas."""
        node = self.nodes.get("mask")
        if node is None or node == self.nodes["image"]:
            return False
        return self.graph[node]["class_type"] == "LoadImageMask" or 0 in _outputs_used(self.graph, node)

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(node["class_type"] for node in self.graph.values()))

    @classmethod
    def read(cls, data: bytes, name: str) -> Self:
        """The operator's own graph.

        Raises:
            ConfigurationError: it is none, or it is not clear what is to be set in it.
        """
        graph = _checked(data, name)
        nodes = _marked(graph, name)
        _complete(graph, nodes, name)
        return cls(name, graph, nodes)


def read_workflow(path: Path) -> tuple[Workflow, str]:
    """The operator's own graph in a file, and what tells it from others.

    Raises:
        ConfigurationError: it cannot be read, or is none, or it is not clear what is to be set in it.
    """
    try:
        data = path.expanduser().read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"The file that COMFYUI_WORKFLOW names cannot be read ({error.strerror or error}).", EXPORT
        ) from None
    return Workflow.read(data, path.name), hashlib.sha256(data).hexdigest()[:16]


def _checked(data: bytes, name: str) -> Graph:
    try:
        graph = json.loads(data) if len(data) <= MAX_GRAPH_BYTES else None
    except (ValueError, RecursionError):
        graph = None
    if isinstance(graph, dict) and isinstance(graph.get("nodes"), list):
        raise ConfigurationError(f"The workflow {name} is in the format of ComfyUI's editor.", EXPORT)
    nodes = graph.values() if isinstance(graph, dict) else ()
    if not nodes or not all(
        isinstance(node, dict) and isinstance(node.get("class_type"), str) and isinstance(node.get("inputs"), dict)
        for node in nodes
    ):
        raise ConfigurationError(f"The workflow {name} is no graph in ComfyUI's API format.", EXPORT)
    return dict(graph or {})


def _marked(graph: Graph, name: str) -> dict[str, str]:
    """The nodes whose titles begin with a mark."""
    found: dict[str, list[str]] = {}
    for node, told in graph.items():
        meta = told.get("_meta")
        title = _MARK.match(str(meta.get("title") or "").strip()) if isinstance(meta, dict) else None
        if title is not None:
            found.setdefault(title[1].lower(), []).append(node)
    if unknown := set(found) - set(_MARKS):
        raise ConfigurationError(
            f"The workflow {name} has a node titled outpaint:{min(unknown)}, which means nothing.",
            f"Title it outpaint: and one of {', '.join(_MARKS)}.",
        )
    for mark, nodes in found.items():
        if len(nodes) > 1:
            raise _ambiguous(name, f"titled outpaint:{mark}", nodes, graph, "Give that title to one node only.")
    return {mark: nodes[0] for mark, nodes in found.items()}


def _complete(graph: Graph, nodes: dict[str, str], name: str) -> None:
    """Add the nodes that need no mark since there is one of their kind only.

    Raises:
        ConfigurationError: something that must be set is not found, or could be several nodes.
    """
    pads = _of_class(graph, "ImagePadForOutpaint")
    if pads:
        raise ConfigurationError(
            f"The workflow {name} pads the image itself (node {_named(graph, pads)}).",
            "Connect the image and the mask of LoadImage in its place: the canvas is drawn before it is sent.",
        )
    for mark, kind in (("image", "LoadImage"), ("result", "SaveImage")):
        if mark not in nodes:
            candidates = [node for node in _of_class(graph, kind) if node != nodes.get("mask")]
            nodes[mark] = _only(candidates, graph, name, mark, kind)
        elif graph[nodes[mark]]["class_type"] != kind:
            raise ConfigurationError(
                f"The workflow {name} has outpaint:{mark} on {_named(graph, [nodes[mark]])}.",
                f"Give that title to a {kind} node.",
            )
    if "mask" not in nodes and 1 not in _outputs_used(graph, nodes["image"]):
        raise ConfigurationError(
            f"The workflow {name} uses no mask: the mask of {_named(graph, [nodes['image']])} is not connected.",
            "Connect it, or title the node that loads the mask outpaint:mask.",
        )
    upstream = _upstream(graph, nodes["result"])
    if "seed" not in nodes:
        seeded = [node for node in upstream if any(type(graph[node]["inputs"].get(one)) is int for one in _SEEDS)]
        nodes["seed"] = _only(seeded, graph, name, "seed", "sampler")
    elif not any(one in graph[nodes["seed"]]["inputs"] for one in _SEEDS):
        raise ConfigurationError(
            f"The workflow {name} has outpaint:seed on {_named(graph, [nodes['seed']])}, which has no seed.",
            "Give that title to the sampler.",
        )
    sampler = nodes["seed"]
    for mark in ("steps", "denoise"):
        if mark not in nodes and mark in graph[sampler]["inputs"]:
            nodes[mark] = sampler
    for mark, conditioning in (("prompt", "positive"), ("negative", "negative")):
        if mark not in nodes and (encoder := _encoder(graph, sampler, conditioning)) is not None:
            nodes[mark] = encoder
    if nodes.get("negative") == nodes.get("prompt"):
        nodes.pop("negative", None)


def _only(candidates: list[str], graph: Graph, name: str, mark: str, kind: str) -> str:
    if len(candidates) == 1:
        return candidates[0]
    if not candidates:
        raise ConfigurationError(
            f"The workflow {name} has no {kind} node for the {mark}.", f"Add one, and title it outpaint:{mark}."
        )
    raise _ambiguous(name, f"that could be the {mark}", candidates, graph, f"Title one of them outpaint:{mark}.")


def _ambiguous(name: str, what: str, nodes: list[str], graph: Graph, advice: str) -> ConfigurationError:
    return ConfigurationError(f"The workflow {name} has {len(nodes)} nodes {what}: {_named(graph, nodes)}.", advice)


def _named(graph: Graph, nodes: Iterable[str]) -> str:
    return ", ".join(f"{node[:20]} ({graph[node]['class_type'][:60]})" for node in nodes)


def _of_class(graph: Graph, kind: str) -> list[str]:
    return [node for node, told in graph.items() if told["class_type"] == kind]


def _links(graph: Graph, node: str) -> list[tuple[str, str, int]]:
    """The inputs of a node that come from other nodes: the input's name, the other node and its output."""
    found = []
    for name, value in graph[node]["inputs"].items():
        match value:
            case [str(other), int(output)] if other in graph:
                found.append((name, other, output))
    return found


def _outputs_used(graph: Graph, node: str) -> set[int]:
    return {output for one in graph for _, other, output in _links(graph, one) if other == node}


def _upstream(graph: Graph, node: str) -> list[str]:
    """The nodes that a node depends on, itself first."""
    found = [node]
    for one in found:
        found += [other for _, other, _ in _links(graph, one) if other not in found]
    return list(dict.fromkeys(found))


def _encoder(graph: Graph, sampler: str, conditioning: str) -> str | None:
    """The only node with a text that a sampler's conditioning comes from, going up the inputs of that name."""
    starts = [other for name, other, _ in _links(graph, sampler) if name == conditioning]
    found: list[str] = []
    seen: list[str] = []
    while starts:
        node = starts.pop()
        if node in seen:
            continue
        seen.append(node)
        if any(isinstance(graph[node]["inputs"].get(name), str) for name in _TEXTS):
            found.append(node)
            continue
        links = _links(graph, node)
        # A node that passes both on has an input for each.
        same = [other for name, other, _ in links if name == conditioning]
        starts += same or [other for name, other, _ in links if name.startswith("conditioning")]
    return found[0] if len(found) == 1 else None


def _add_variant(graph: Graph, workflow: Workflow, copied: int) -> None:
    """Add a copy of all that comes of the seed, with the seed after it."""
    seed = workflow.nodes["seed"]
    own = [node for node in workflow.graph if seed in _upstream(workflow.graph, node)]
    for node in own:
        one = copy.deepcopy(graph[node])
        for name, other, output in _links(graph, node):
            if other in own:
                one["inputs"][name] = [f"{other}-{copied}", output]
        graph[f"{node}-{copied}"] = one
    name = next(one for one in _SEEDS if one in graph[seed]["inputs"])
    graph[f"{seed}-{copied}"]["inputs"][name] = (graph[seed]["inputs"][name] + copied) % 2**64
    result = graph[f"{workflow.nodes['result']}-{copied}"]["inputs"]
    result["filename_prefix"] = f"{result.get('filename_prefix', '')}-{copied}"
