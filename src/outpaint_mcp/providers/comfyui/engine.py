"""What a ComfyUI has: its version and device, the model files that it lists, and which of a graph's nodes. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from outpaint_mcp.providers import ConfigurationError
from outpaint_mcp.providers.comfyui.built_in import models
from outpaint_mcp.providers.comfyui.workflow import Choices

MOST_NAMED: Final = 6


@dataclass(frozen=True, slots=True)
class Engine:
    """A ComfyUI as it was found.

    `unknown` are classes of nodes that it does not have, and `paid` those that order from somebody else, for money.
    """

    version: str = ""
    device: str = ""
    choices: Choices = field(default_factory=dict)
    unknown: tuple[str, ...] = ()
    paid: tuple[str, ...] = ()

    def __str__(self) -> str:
        """What it is and which models it has, in sentences."""
        version = f" {self.version}" if self.version else ""
        where = f" on {self.device}" if self.device else ""
        names = models(self.choices)
        more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
        return f"ComfyUI{version}{where} has the models {', '.join(names[:MOST_NAMED]) or 'none'}{more}."

    def check_nodes(self, name: str) -> None:
        """Refuse the operator's own workflow if it cannot run here, or costs money.

        Raises:
            ConfigurationError: with the nodes.
        """
        if self.unknown:
            raise ConfigurationError(
                f"ComfyUI lacks nodes of the workflow {name}: {', '.join(self.unknown[:5])}.",
                "Have the operator install their package in ComfyUI, update it, or take another workflow.",
            )
        if self.paid:
            raise ConfigurationError(
                f"The workflow {name} has nodes that order elsewhere and cost money: {', '.join(self.paid[:5])}.",
                "Have the operator take them out: this server counts no money for ComfyUI.",
            )

    @property
    def heeds_ids(self) -> bool:
        """Whether `/interrupt` heeds the id of a prompt: from 0.3.56; before it stops whatever runs."""
        try:
            parts = tuple(int(part) for part in self.version.split(".")[:3])
        except ValueError:
            return False
        return parts >= (0, 3, 56)


def read_engine(stats: Any, described: Mapping[str, Any], own: Iterable[str] = ()) -> Engine:
    """The engine by its answers.

    Args:
        stats: the answer from ``/system_stats``.
        described: by class of node, the answer from ``/object_info/{class}``.
        own: the classes of the operator's own workflow.
    """
    choices: dict[tuple[str, str], tuple[str, ...]] = {}
    for kind, answer in described.items():
        choices |= choices_of(answer, kind)
    known = {kind: told for kind, answer in described.items() if isinstance(told := _of(answer, kind), dict)}
    system = _of(stats, "system")
    version = system.get("comfyui_version") if isinstance(system, dict) else None
    return Engine(
        version if isinstance(version, str) else "",
        _device(stats),
        choices,
        tuple(kind for kind in own if kind not in known),
        tuple(kind for kind in own if known.get(kind, {}).get("api_node") is True),
    )


def _of(answer: Any, name: str) -> Any:
    return answer.get(name) if isinstance(answer, dict) else None


def _device(stats: Any) -> str:
    """The first device, and its memory in GB."""
    match _of(stats, "devices"):
        case [{"name": str(name), **told}, *_]:
            memory = told.get("vram_total")
            # As ComfyUI writes it: "cuda:0 NVIDIA GeForce RTX 4090 : cudaMallocAsync".
            plain = name.partition(" : ")[0]
            return f"{plain}, {memory / 1024**3:.0f} GB" if isinstance(memory, int | float) and memory > 0 else plain
    return ""


def choices_of(answer: Any, loader: str) -> dict[tuple[str, str], tuple[str, ...]]:
    """The lists of files in ComfyUI's description of a node, in both shapes that there are."""
    told = _of(_of(answer, loader), "input")
    found: dict[tuple[str, str], tuple[str, ...]] = {}
    for part in told.values() if isinstance(told, dict) else ():
        for name, described in part.items() if isinstance(part, dict) else ():
            match described:
                case [list(listed), *_] | ["COMBO", {"options": list(listed)}, *_]:
                    found[loader, name] = tuple(one for one in listed if isinstance(one, str))
    return found
