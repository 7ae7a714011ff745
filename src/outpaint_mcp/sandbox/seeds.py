"""The finished tasks that every sandbox starts with, under fixed ids, so that nobody has to make a grid first."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Seed:
    """A finished task. `remote_id` is the id that Vtrix wants named as `jobId`, where it is another one."""

    vendor: str
    id: str
    is_grid: bool
    what: str
    model: str = "midjourney"
    remote_id: str = ""
    foreign: bool = False


_GRID = "a finished grid of four images"
_SINGLE = "a finished upscaled image (the grid's first)"

SEEDS: tuple[Seed, ...] = (
    Seed("piapi", "5eed0001-0000-4000-8000-000000000001", True, _GRID),
    Seed("piapi", "5eed0001-0000-4000-8000-000000000002", False, _SINGLE),
    Seed(
        "vtrix",
        "d5eed2grid0000000001",
        True,
        f"{_GRID}; its output names the jobId 5eed0002-0000-4000-8000-000000000001",
        "midjourney_diffusion",
        "5eed0002-0000-4000-8000-000000000001",
    ),
    Seed(
        "vtrix",
        "d5eed2single00000002",
        False,
        f"{_SINGLE}; its output names the jobId 5eed0002-0000-4000-8000-000000000002",
        "midjourney_upscale",
        "5eed0002-0000-4000-8000-000000000002",
    ),
    Seed(
        "vtrix",
        "d5eed2plain000000003",
        True,
        f"{_GRID} whose output names no jobId: the task's own id is used",
        "midjourney_diffusion",
    ),
    Seed("apiframe", "5eed0003-0000-4000-8000-000000000001", True, _GRID),
    Seed("apiframe", "5eed0003-0000-4000-8000-000000000002", False, "a finished upsample (the grid's first image)"),
    Seed("apimart", "task_5eed0004grid", True, _GRID),
    Seed("apimart", "task_5eed0004single", False, _SINGLE),
    Seed("apimart", "task_5eed0004foreign", False, "somebody else's task: 403", foreign=True),
    Seed("legnext", "5eed0005-0000-4000-8000-000000000001", True, _GRID),
    Seed("legnext", "5eed0005-0000-4000-8000-000000000002", False, _SINGLE),
)


def seeds_of(vendor: str) -> tuple[Seed, ...]:
    return tuple(seed for seed in SEEDS if seed.vendor == vendor)


def seed_id(vendor: str, *, grid: bool) -> str:
    """The id of the vendor's seeded grid, or of its seeded single image.

    Raises:
        KeyError: there is no such vendor.
    """
    for seed in SEEDS:
        if seed.vendor == vendor and seed.is_grid == grid and not seed.foreign:
            return seed.id
    raise KeyError(vendor)
