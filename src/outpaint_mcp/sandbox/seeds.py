"""The finished tasks with fixed ids that a sandbox starts with, so that no client has to make one first."""

from dataclasses import dataclass

GRID = "a finished grid of four images"
SINGLE = "a finished upscaled image (the grid's first)"


@dataclass(frozen=True, slots=True)
class Seed:
    """A finished task. `remote_id` is the id that Vtrix wants named as `jobId`, where it is another one.

    `foreign`: the task is another customer's, which the vendor does not show.
    """

    vendor: str
    id: str
    is_grid: bool
    what: str
    model: str = "midjourney"
    remote_id: str = ""
    foreign: bool = False
