"""The pictures of the local engine's benchmark, by kind: drawn ones, and photographs and illustrations out of packages.

    python benchmarks/pictures.py --fetch

unpacks Debian's wallpaper packages into benchmarks/out/wallpapers (220 MB, with apt-get and dpkg-deb, on Debian 12 or
Ubuntu); nothing is installed, and the benchmark itself downloads nothing. Without them their pictures are left out.
No picture is part of this repository, and docs/ shows only drawn ones and those of `FREE`: scikit-learn's two are
CC BY, and each Debian package has its own licences in /usr/share/doc/PACKAGE/copyright.
"""

import argparse
import importlib.util
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from graphics import SCENES, UNKNOWABLE
from PIL import Image
from scene import Pixels

from outpaint_mcp.domain.frame import Frame
from outpaint_mcp.providers.local.plan import Canvas

WALLPAPERS = Path(__file__).parent / "out" / "wallpapers"
DEBIAN = (
    "plasma-workspace-wallpapers",
    "mate-backgrounds",
    "lxqt-themes",
    "lomiri-wallpapers-16.04",
    "ukui-wallpapers",
)
SIDE = 512  # the longer side of what is extended
ZOOM = 1.5
MIDDLE = ", middle"
"""What the name of a case ends with that is a picture's middle."""

# Where a picture is found: PACKAGE/FILE. In Debian's packages, below /usr/share.
_KDE = "plasma-workspace-wallpapers/wallpapers/{}/contents/images/2560x1600.jpg"
_LOMIRI = "lomiri-wallpapers-16.04/backgrounds/{}.jpg"
FOUND: dict[str, dict[str, str]] = {
    "skies, water, fields": {
        "summer night": _KDE.format("summer_1am"),
        "darkest hour": _KDE.format("DarkestHour"),
        "kite": _KDE.format("Kite"),
        "sunset clouds": "lxqt-themes/lxqt/wallpapers/after-the-rain.jpg",
        "dune": "mate-backgrounds/backgrounds/mate/nature/Dune.jpg",
        "mountain meadow": _LOMIRI.format("aitzgorri_by_Aitzol_Berasategi"),
        "pass": _LOMIRI.format("picosdeeuropa_by_Aitzol_Berasategi"),
        "hill in fog": "lxqt-themes/lxqt/wallpapers/fog.jpg",
    },
    "foliage and textures": {
        "forest": _KDE.format("Path"),
        "moss": _KDE.format("OneStandsOut"),
        "leaves": _LOMIRI.format("Dragonfly_by_Bolly"),
        "stream": _LOMIRI.format("life_by_Aitzol_Berasategi"),
        "grass": "scikit-image/data/grass.png",
        "gravel": "scikit-image/data/gravel.png",
        "brick": "scikit-image/data/brick.png",
        "galaxies": "scikit-image/data/hubble_deep_field.jpg",
    },
    "close-ups, soft behind": {
        "autumn leaf": _KDE.format("FallenLeaf"),
        "butterfly": "lxqt-themes/lxqt/wallpapers/Butterfly-Kenneth-Wimer.jpg",
        "blossom": "lxqt-themes/lxqt/wallpapers/appleflower.png",
        "waterdrop": "lxqt-themes/lxqt/wallpapers/drop.png",
        "marigold": "mate-backgrounds/backgrounds/mate/nature/Garden.jpg",
        "dandelions": _LOMIRI.format("seeding_by_Clements_Engelhardt"),
        "flower": "scikit-learn/datasets/images/flower.jpg",
        "cup of coffee": "scikit-image/data/coffee.png",
    },
    "people, animals, things": {
        "astronaut": "scikit-image/data/astronaut.png",
        "cat": "scikit-image/data/chelsea.png",
        "rocket": "scikit-image/data/rocket.jpg",
        "cameraman": "scikit-image/data/camera.png",
        "coins": "scikit-image/data/coins.png",
        "motorcycle": "scikit-image/data/motorcycle_left.png",
        "fig": _LOMIRI.format("Picture_0B_by_freespace"),
        "dogs": _LOMIRI.format("friends_by_Aitzol_Berasategi"),
    },
    "buildings and structures": {
        "jetty": _KDE.format("ColdRipple"),
        "planks": _KDE.format("BytheWater"),
        "boats": _KDE.format("EveningGlow"),
        "slats": _KDE.format("Grey"),
        "cups": _KDE.format("ColorfulCups"),
        "bridge": _LOMIRI.format("Bridge_by_Sander_Klootwijk"),
        "palace": "scikit-learn/datasets/images/china.jpg",
        "photographed page": "scikit-image/data/page.png",
    },
    "illustrations": {
        "autumn tree": _KDE.format("Autumn"),
        "pastel hills": "plasma-workspace-wallpapers/wallpapers/PastelHills/contents/images/3200x2000.jpg",
        "mountains": "plasma-workspace-wallpapers/wallpapers/Altai/contents/images/5120x2880.png",
        "rocket landing": "plasma-workspace-wallpapers/wallpapers/SafeLanding/contents/images/5120x2880.jpg",
        "dragon": "plasma-workspace-wallpapers/wallpapers/FlyingKonqui/contents/images/2560x1600.png",
        "bands": "plasma-workspace-wallpapers/wallpapers/Kay/contents/images/5120x2880.png",
        "goldfish": "ukui-wallpapers/backgrounds/goldfish.png",
        "city": "ukui-wallpapers/backgrounds/city.png",
    },
}
# In the public domain or CC0, says scikit-image's documentation of each.
FREE = ("astronaut", "cat", "rocket", "cameraman", "coins", "cup of coffee", "grass", "gravel", "brick", "galaxies")


@dataclass(frozen=True, slots=True)
class Case:
    """A picture to extend, and what is known of the outcome."""

    name: str
    kind: str
    pixels: Pixels
    canvas: Canvas
    truth: Pixels | None
    """The whole canvas, where it is known."""
    is_exact: bool = False
    """Whether the truth follows from the original, so that each pixel counts; else only likeness does."""


def cases() -> Iterator[Case]:
    """Each picture to look at, and for what was not drawn its middle too, whose surroundings are known."""
    for kind, scenes in SCENES.items():
        for name, draw in scenes.items():
            yield _middle(name, kind, draw(), is_exact=name not in UNKNOWABLE)
    for kind, files in FOUND.items():
        for name, file in files.items():
            path = _path(file)
            if not path.exists():
                continue
            opened = Image.open(path)
            opened.draft("RGB", (1024, 1024))
            image = opened.convert("RGB")
            whole = _scaled(image, SIDE)
            canvas = Canvas.of(Frame.around(whole.shape[1], whole.shape[0], zoom=ZOOM))
            yield Case(name, kind, whole, canvas, None)
            yield _middle(name + MIDDLE, kind, _scaled(image, round(SIDE * ZOOM)), is_exact=False)


def missing_packages() -> list[str]:
    files = (file for files in FOUND.values() for file in files.values())
    return sorted({file.split("/")[0] for file in files if not _path(file).exists()})


def _path(file: str) -> Path:
    package, _, below = file.partition("/")
    modules = {"scikit-image": "skimage", "scikit-learn": "sklearn"}
    if package not in modules:
        return WALLPAPERS / package / "usr/share" / below
    spec = importlib.util.find_spec(modules[package])
    return Path("missing") if spec is None or spec.origin is None else Path(spec.origin).parent / below


def _scaled(image: Image.Image, longer: int) -> Pixels:
    scale = longer / max(image.size)
    size = round(image.width * scale), round(image.height * scale)
    return np.asarray(image.resize(size, Image.Resampling.LANCZOS))


def _middle(name: str, kind: str, truth: Pixels, *, is_exact: bool) -> Case:
    height, width = round(truth.shape[0] / ZOOM), round(truth.shape[1] / ZOOM)
    x, y = (truth.shape[1] - width) // 2, (truth.shape[0] - height) // 2
    pixels = np.ascontiguousarray(truth[y : y + height, x : x + width])
    return Case(name, kind, pixels, Canvas(truth.shape[1], truth.shape[0], x, y), truth, is_exact)


def fetch() -> None:
    for package in DEBIAN:
        folder = WALLPAPERS / package
        if folder.exists():
            continue
        WALLPAPERS.mkdir(parents=True, exist_ok=True)
        subprocess.run(["/usr/bin/apt-get", "download", "--quiet", package], cwd=WALLPAPERS, check=True)
        (archive,) = WALLPAPERS.glob(f"{package}_*.deb")
        subprocess.run(["/usr/bin/dpkg-deb", "--extract", archive, folder], check=True)
        archive.unlink()
        print(f"{package} is unpacked in {folder}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The benchmark's pictures.")
    parser.add_argument("--fetch", action="store_true", help="download and unpack Debian's wallpaper packages")
    if parser.parse_args().fetch:
        fetch()
    print("Missing: " + (", ".join(missing_packages()) or "nothing"))
