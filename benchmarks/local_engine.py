"""The local engine beside other ways to extend a picture without a model: seconds, memory, and likeness to the truth.

    python benchmarks/local_engine.py [--prototype FILE] [--repeats 3] [--skip-speed] [--skip-quality]

Speed: every method extends the same picture in a child process of its own, all methods in turn before the next round.
Seconds are the median of the work alone, without start-up and files; memory is the child's peak, the interpreter
and its libraries included (about 60 MB).

Quality: the middle of a known picture is extended back to its size, and the ring compared with the true ring.

- LSWD, location-aware sliced Wasserstein distance: patches of 7x7 with their place, at two scales, projected on random
  directions; the mean difference of the sorted projections, in units of the truth's own spread. Does the right texture
  lie in about the right place?
- GHD, gradient histogram distance, 0 to 2: as blurred, as busy and as directed as the truth?
- seam: the step across the original's border, relative to the truth's step there. 1 is none.

Lower is better, for the seam nearer to 1. Pixel measures (PSNR, SSIM) are left out: they reward blur. None of
these measures minds a mirror, which repeats heads and shows its axis: look at the contact sheets. Pictures and
contact sheets go to benchmarks/out. Needs the extra `benchmark`.
"""

import argparse
import importlib.util
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, median

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from outpaint_mcp.domain.frame import Frame
from outpaint_mcp.providers.local.engine import extend
from outpaint_mcp.providers.local.plan import Canvas

Pixels = NDArray[np.uint8]
Method = Callable[[Pixels, Canvas], Pixels]

OUT = Path(__file__).parent / "out"
SIZES = ((512, 1024), (1024, 1536), (2048, 4096))
SLOW = 20.0  # seconds; what takes longer is not repeated
# Public domain or CC0, in scikit-image's wheel. (name, source)
PHOTOGRAPHS = {
    "astronaut": "astronaut.png",
    "chelsea": "chelsea.png",
    "coffee": "coffee.png",
    "rocket": "rocket.jpg",
    "hubble": "hubble_deep_field.jpg",
    "grass": "grass.png",
    "gravel": "gravel.png",
    "brick": "brick.png",
}


# Methods.


def ours(quality: str) -> Method:
    def run(pixels: Pixels, canvas: Canvas) -> Pixels:
        return extend(pixels, canvas, quality=quality, seed=0, progress=lambda _part: None)  # type: ignore[arg-type]

    return run


def prototype_at(path: Path, quality: str) -> Method:
    spec = importlib.util.spec_from_file_location("prototype", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["prototype"] = module
    spec.loader.exec_module(module)

    def run(pixels: Pixels, canvas: Canvas) -> Pixels:
        return module.outpaint(pixels, canvas.width, canvas.height, canvas.x, canvas.y, quality=quality)

    return run


def opencv(flag: str) -> Method:
    def run(pixels: Pixels, canvas: Canvas) -> Pixels:
        import cv2

        cv2.setNumThreads(1)
        framed, hole = np.zeros((canvas.height, canvas.width, 3), np.uint8), np.full((canvas.height, canvas.width), 255)
        inside = slice(canvas.y, canvas.y + pixels.shape[0]), slice(canvas.x, canvas.x + pixels.shape[1])
        framed[inside], hole[inside] = pixels, 0
        return cv2.inpaint(framed, hole.astype(np.uint8), 3, getattr(cv2, flag))

    return run


def mirror(pixels: Pixels, canvas: Canvas) -> Pixels:
    below, beyond = canvas.height - canvas.y - pixels.shape[0], canvas.width - canvas.x - pixels.shape[1]
    return np.pad(pixels, ((canvas.y, below), (canvas.x, beyond), (0, 0)), mode="reflect")


def methods(prototype: Path | None) -> dict[str, Callable[[], Method]]:
    """Each method by name, to be loaded when it is needed: a child process should hold only its own libraries."""
    table: dict[str, Callable[[], Method]] = {f"ours, {q}": (lambda q=q: ours(q)) for q in ("fast", "balanced", "best")}
    if prototype is not None:
        table |= {f"prototype, {q}": (lambda q=q: prototype_at(prototype, q)) for q in ("fast", "balanced", "best")}
    table["OpenCV Telea"] = lambda: opencv("INPAINT_TELEA")
    table["OpenCV Navier-Stokes"] = lambda: opencv("INPAINT_NS")
    table["mirror"] = lambda: mirror
    return table


# Pictures.


def photographs() -> dict[str, Pixels]:
    spec = importlib.util.find_spec("skimage")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "data"
    return {name: np.asarray(Image.open(folder / file).convert("RGB")) for name, file in PHOTOGRAPHS.items()}


def procedural(side: int = 512) -> dict[str, Pixels]:
    """Images whose continuation nobody doubts: gradients, a horizon, waves, planks."""
    rng = np.random.default_rng(11)
    rows, columns = np.mgrid[:side, :side] / side

    def noise(cells: int) -> NDArray[np.float64]:
        small = Image.fromarray(rng.normal(0, 1, (cells, cells)).astype(np.float32))
        return np.asarray(small.resize((side, side), Image.Resampling.BICUBIC)).astype(float)

    def picture(*channels: NDArray[np.float64]) -> Pixels:
        return (np.stack(channels, -1) + rng.normal(0, 1.5, (side, side, 3))).clip(0, 255).astype(np.uint8)

    radial = 1 - np.hypot(rows - 0.5, columns - 0.5)
    clouds = sum(noise(4 * 2**k) / 2**k for k in range(5)) * 18
    sea = np.sin(40 * rows**1.5 * np.pi + 2 * noise(24)) * 14 * rows
    planks = 22 * ((columns * 14) % 1 < 0.06) + 9 * noise(64) + 8 * np.sin(columns * 90 + 3 * noise(6))
    horizon = rows > 0.55 + 0.02 * noise(5)
    grain = noise(side // 2) * 16
    return {
        "radial": picture(60 + 150 * radial, 80 + 120 * radial, 120 + 100 * radial),
        "clouds": picture(120 + clouds + 60 * rows, 150 + clouds + 40 * rows, 215 + clouds / 2),
        "sea": picture(40 + 90 * (1 - rows) + sea, 90 + 70 * (1 - rows) + sea, 120 + 60 * (1 - rows) + sea),
        "planks": picture(150 - planks, 105 - planks, 70 - planks),
        "meadow": picture(
            *(np.where(horizon, ground + grain, sky + 60 * rows) for ground, sky in ((80, 110), (110, 160), (40, 220)))
        ),
    }


def speed_picture(side: int) -> Pixels:
    photograph = Image.fromarray(photographs()["hubble"]).crop((0, 0, 872, 872))
    return np.asarray(photograph.resize((side, side), Image.Resampling.LANCZOS))


# Measures.


@dataclass(frozen=True, slots=True)
class Scores:
    lswd: float
    ghd: float
    seam: float


def scores(drawn: Pixels, truth: Pixels, canvas: Canvas, width: int, height: int) -> Scores:
    return Scores(_lswd(drawn, truth, canvas, width, height), _ghd(drawn, truth, canvas, width, height),
                  _seam(drawn, truth, canvas, width, height))  # fmt: skip


def _lswd(drawn: Pixels, truth: Pixels, canvas: Canvas, width: int, height: int) -> float:
    rng = np.random.default_rng(0)
    distances = []
    for longest in (128, 384):
        scale = min(1.0, longest / max(truth.shape[:2]))
        size = round(truth.shape[1] * scale), round(truth.shape[0] * scale)
        both = [
            np.asarray(Image.fromarray(p).resize(size, Image.Resampling.BOX)).astype(np.float32) for p in (drawn, truth)
        ]
        side = 7
        rows, columns = np.mgrid[: size[1] - side + 1, : size[0] - side + 1]
        centre_y, centre_x = (rows + side / 2) / scale - canvas.y, (columns + side / 2) / scale - canvas.x
        ring = (centre_y < 0) | (centre_y >= height) | (centre_x < 0) | (centre_x >= width)
        y, x = rows[ring], columns[ring]
        chosen = rng.choice(len(y), min(len(y), 20_000), replace=False)
        y, x = y[chosen], x[chosen]
        # The place weighs as much as the whole patch's spread, so that a sky on the ground counts as wrong.
        clouds = []
        for picture in both:
            windows = np.lib.stride_tricks.sliding_window_view(picture, (side, side), axis=(0, 1))
            clouds.append(windows[y, x].reshape(len(y), -1))
        spread = np.sqrt(clouds[1].var(0).sum())
        place = np.stack([y / size[1], x / size[0]], -1) * spread * 2
        directions = rng.normal(size=(clouds[0].shape[1] + 2, 96))
        directions /= np.linalg.norm(directions, axis=0)
        projected = [np.sort(np.concatenate([cloud, place], 1) @ directions, axis=0) for cloud in clouds]
        distances.append(float(np.abs(projected[0] - projected[1]).mean() / projected[1].std(0).mean()))
    return mean(distances)


def _ghd(drawn: Pixels, truth: Pixels, canvas: Canvas, width: int, height: int) -> float:
    ring = np.ones(truth.shape[:2], bool)
    ring[canvas.y - 1 : canvas.y + height + 1, canvas.x - 1 : canvas.x + width + 1] = False
    histograms = []
    for picture in (drawn, truth):
        down, right = np.gradient(picture.astype(np.float32).mean(-1))
        strength, angle = np.log1p(np.hypot(down, right))[ring], (np.arctan2(down, right) % np.pi)[ring]
        counts = np.histogram2d(strength, angle, bins=(16, 6), range=((0, 5), (0, np.pi)))[0]
        histograms.append(counts / counts.sum())
    return float(np.abs(histograms[0] - histograms[1]).sum())


def _seam(drawn: Pixels, truth: Pixels, canvas: Canvas, width: int, height: int) -> float:
    steps = []
    for picture in (drawn, truth):
        values = picture.astype(np.float32)
        across = []
        for edge in (canvas.y, canvas.y + height):
            line = slice(canvas.x, canvas.x + width)
            across.append(np.abs(values[edge, line] - values[edge - 1, line]).mean())
        for edge in (canvas.x, canvas.x + width):
            line = slice(canvas.y, canvas.y + height)
            across.append(np.abs(values[line, edge] - values[line, edge - 1]).mean())
        steps.append(mean(map(float, across)))
    return steps[0] / max(steps[1], 0.1)


# Runs.


def run_child(name: str, source: Path, canvas: Canvas, target: Path, prototype: Path | None) -> tuple[float, float]:
    """Seconds and peak megabytes of one extension in a process of its own."""
    order = {"name": name, "source": str(source), "canvas": asdict(canvas), "target": str(target)}
    command = [sys.executable, __file__, "--child", json.dumps(order)]
    if prototype is not None:
        command += ["--prototype", str(prototype)]
    answer = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return answer["seconds"], answer["megabytes"]


def child(order: dict[str, object], prototype: Path | None) -> None:
    method = methods(prototype)[str(order["name"])]()
    pixels = np.asarray(Image.open(str(order["source"])))
    canvas = Canvas(**order["canvas"])  # type: ignore[arg-type]
    start = time.perf_counter()
    drawn = method(pixels, canvas)
    seconds = time.perf_counter() - start
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    Image.fromarray(drawn).save(str(order["target"]), compress_level=1)
    print(json.dumps({"seconds": seconds, "megabytes": megabytes}))


def measure_speed(names: list[str], repeats: int, prototype: Path | None) -> None:
    results: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for before, after in SIZES:
        source = OUT / f"speed-{before}.png"
        Image.fromarray(speed_picture(before)).save(source)
        canvas = Canvas.of(Frame.around(before, before, zoom=after / before))
        for _ in range(repeats):
            for name in names:
                measured = results.setdefault((name, before), [])
                if not measured or measured[-1][0] < SLOW:
                    measured.append(run_child(name, source, canvas, OUT / f"speed-{before}-{name}.png", prototype))
    print("\n| median seconds, peak MB | " + " | ".join(f"{before} -> {after}" for before, after in SIZES) + " |")
    print("|---|" + "---|" * len(SIZES))
    for name in names:
        cells = [
            f"{median(s for s, _ in results[name, before]):.2f} s, {median(m for _, m in results[name, before]):.0f} MB"
            for before, _ in SIZES
        ]
        print(f"| {name} | " + " | ".join(cells) + " |")


def measure_quality(names: list[str], prototype: Path | None) -> None:
    groups = {"photographs": photographs(), "procedural": procedural()}
    loaded = {name: methods(prototype)[name]() for name in names}
    found: dict[tuple[str, str], list[Scores]] = {}
    for group, pictures in groups.items():
        for title, truth in pictures.items():
            for zoom in (1.5, 2.0):
                height, width = round(truth.shape[0] / zoom), round(truth.shape[1] / zoom)
                canvas = Canvas(
                    truth.shape[1], truth.shape[0], (truth.shape[1] - width) // 2, (truth.shape[0] - height) // 2
                )
                cropped = truth[canvas.y : canvas.y + height, canvas.x : canvas.x + width].copy()
                drawn = {name: method(cropped, canvas) for name, method in loaded.items()}
                for name, picture in drawn.items():
                    scored = scores(picture, truth, canvas, width, height)
                    found.setdefault((group, name), []).append(scored)
                    found.setdefault((title, name), []).append(scored)
                contact_sheet({"truth": truth} | drawn, canvas, width, height).save(OUT / f"{title}-{zoom}.png")
    for group, pictures in groups.items():
        print(f"\n| {len(pictures)} {group}, zoom 1.5 and 2 | LSWD | GHD | seam |\n|---|---|---|---|")
        for name in names:
            of = found[group, name]
            lswd, ghd, seam = mean(s.lswd for s in of), mean(s.ghd for s in of), mean(s.seam for s in of)
            print(f"| {name} | {lswd:.3f} | {ghd:.2f} | {seam:.2f} |")
    titles = [title for pictures in groups.values() for title in pictures]
    print("\n| LSWD | " + " | ".join(titles) + " |\n|---|" + "---|" * len(titles))
    for name in names:
        print(f"| {name} | " + " | ".join(f"{mean(s.lswd for s in found[title, name]):.3f}" for title in titles) + " |")


def contact_sheet(pictures: dict[str, Pixels], canvas: Canvas, width: int, height: int) -> Image.Image:
    """All pictures side by side with their names; the first one shows where the original lies."""
    images = []
    for title, pixels in pictures.items():
        image = Image.fromarray(pixels)
        if not images:
            box = (canvas.x, canvas.y, canvas.x + width - 1, canvas.y + height - 1)
            ImageDraw.Draw(image).rectangle(box, outline="red")
        image.thumbnail((480, 480))
        ImageDraw.Draw(image).text((4, 4), title, fill="white", stroke_width=2, stroke_fill="black")
        images.append(image)
    cell_width, cell_height = (max(sizes) for sizes in zip(*(image.size for image in images), strict=True))
    sheet = Image.new("RGB", (cell_width * min(4, len(images)), cell_height * -(-len(images) // 4)))
    for index, image in enumerate(images):
        sheet.paste(image, (index % 4 * cell_width, index // 4 * cell_height))
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description="The local engine beside other methods.")
    parser.add_argument("--prototype", type=Path, help="a module with outpaint(pixels, W, H, x, y, quality=...)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", help="names of methods, with semicolons between them")
    parser.add_argument("--skip-speed", action="store_true")
    parser.add_argument("--skip-quality", action="store_true")
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child is not None:
        child(given.child, given.prototype)
        return
    OUT.mkdir(exist_ok=True)
    wanted = given.only.split(";") if given.only else None
    names = [name for name in methods(given.prototype) if wanted is None or name in wanted]
    if not given.skip_speed:
        measure_speed(names, given.repeats, given.prototype)
    if not given.skip_quality:
        measure_quality(names, given.prototype)


if __name__ == "__main__":
    main()
