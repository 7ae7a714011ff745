"""The local engine beside the engine before, and other ways to extend a picture without a model, by kind of picture.

    python benchmarks/pictures.py --fetch     # once: Debian's wallpapers
    python benchmarks/local_engine.py [--before REV] [--speed] [--docs]

Every picture is extended to one and a half times its size by every method (benchmarks/methods.py), one at a time, each
in a process of its own. Contact sheets, one for each kind, go to benchmarks/out/sheets, for a person to score each
picture from 0 (embarrassing) over 1 (visibly wrong) and 2 (good at a glance) to 3 (publishable) in
benchmarks/scores.csv. Where the surroundings are known (of drawn pictures, and of the middle of the others) the
measures of benchmarks/measures.py compare the new area with them. The tables are printed; `--docs` puts the scores'
table and some of the sheets into docs/.

What was drawn is kept in benchmarks/out/runs, and is drawn again only where a picture or the engine has changed.
Needs the extra `benchmark`; pypatchmatch and scikit-learn are used where they are installed.
"""

import argparse
import csv
import hashlib
import json
import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, median

import numpy as np
from graphics import SCENES
from measures import Scores, scores
from methods import METHODS, PROJECT, Job, Pixels, Run, is_installed, run
from pictures import FREE, MIDDLE, Case, cases, missing_packages
from PIL import Image
from sheets import framed, save, sheet

from outpaint_mcp.domain.frame import Frame
from outpaint_mcp.providers.local.plan import Canvas

OUT = Path(__file__).parent / "out"
EYE = Path(__file__).parent / "scores.csv"
DOCS = PROJECT / "docs"
ENGINE = "src/outpaint_mcp/providers/local"
AROUND = ("__init__", "provider", "worker", "workers", "raster", "model")
"""The modules of `ENGINE` that do not draw."""
COMPARED = ("before", "now", "mirror", "PyPatchMatch", "OpenCV Telea", "OpenCV Navier-Stokes")
ON_SHEETS = ("before", "now", "mirror", "PyPatchMatch", "OpenCV Telea")
ONLY = {"PyPatchMatch": ("foliage and textures", "buildings and structures")}
"""The kinds that a method draws, if not all: half a minute for each picture is spent where copies are wanted."""
MOST, MOST_IN_DOCS = 400_000, 240_000  # bytes of a contact sheet
SIZES = ((512, 1024), (1024, 1536), (2048, 4096))  # of --speed
SLOW = 20.0  # seconds; what takes longer is not repeated


@dataclass(frozen=True, slots=True)
class Drawn:
    case: Case
    path: Path
    run: Run

    def pixels(self) -> Pixels:
        return np.asarray(Image.open(self.path))


def slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def digest(contents: Iterable[bytes]) -> str:
    found = hashlib.sha256()
    for content in contents:
        found.update(content)
    return found.hexdigest()[:10]


def drawn_by(method: str, wanted: Sequence[Case], source: Path) -> dict[str, Drawn]:
    """What the method makes of each case, by the case's name."""
    modules = sorted((source / "outpaint_mcp" / "providers" / "local").glob("*.py"))
    stages = (path.read_bytes() for path in modules if path.stem not in AROUND)
    key = digest(stages) if method.startswith(("now", "before")) else ""
    # The engine that was "now" may be "before" later.
    folder = OUT / "runs" / slug(f"engine{method[3:] if method.startswith('now') else ''} {key}" if key else method)
    jobs: dict[Path, tuple[Case, Job]] = {}
    for case in wanted:
        name = f"{slug(case.name)}-{digest((case.pixels.tobytes(), str(case.canvas).encode()))}.png"
        original = OUT / "originals" / name
        original.parent.mkdir(parents=True, exist_ok=True)
        if not original.exists():
            Image.fromarray(case.pixels).save(original, compress_level=1)
        jobs[folder / name] = case, Job(original, case.canvas, folder / name)
    folder.mkdir(parents=True, exist_ok=True)
    open_jobs = [job for target, (_, job) in jobs.items() if not target.with_suffix(".json").exists()]
    for job, measured in run(method, open_jobs, source) if open_jobs else ():
        job.target.with_suffix(".json").write_text(json.dumps(asdict(measured)), encoding="utf-8")
        print(f"  {method}: {job.target.stem} in {measured.seconds:.1f} s", flush=True)
    return {
        case.name: Drawn(case, target, Run(**json.loads(target.with_suffix(".json").read_text(encoding="utf-8"))))
        for target, (case, _) in jobs.items()
    }


@contextmanager
def source_of(revision: str | None) -> Iterator[Path | None]:
    """The source folder of a revision in a worktree of its own. By default, of the one before the ground stage."""
    git = ["git", "-C", str(PROJECT)]
    if revision is None:
        log = [*git, "log", "--diff-filter=A", "--format=%H", "--", f"{ENGINE}/ground.py"]
        added = subprocess.run(log, check=True, capture_output=True, text=True).stdout.split()
        revision = f"{added[-1]}^" if added else "HEAD"
    with tempfile.TemporaryDirectory() as folder:
        worktree = str(Path(folder) / "before")
        done = subprocess.run(
            [*git, "worktree", "add", "--detach", worktree, revision], check=False, capture_output=True
        )
        if done.returncode:
            print(f"The engine before is left out: there is no revision {revision}.")
            yield None
            return
        try:
            yield Path(worktree) / "src"
        finally:
            subprocess.run([*git, "worktree", "remove", "--force", worktree], check=True)


# Tables


def eye() -> dict[str, dict[str, str]]:
    if not EYE.exists():
        return {}
    with EYE.open(encoding="utf-8", newline="") as file:
        return {row["picture"]: row for row in csv.DictReader(file)}


def eye_table() -> str:
    """The scores by eye: their means by kind, and how many pictures got 0."""
    rows = list(eye().values())
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    lines = ["| kind | pictures | before | now | at 0 before | at 0 now |", "|---|---|---|---|---|---|"]
    for kind in [*kinds, "all"]:
        of = [row for row in rows if kind in ("all", row["kind"])]
        means = [f"{mean(float(row[column]) for row in of):.2f}" for column in ("before", "now")]
        zeros = [str(sum(float(row[column]) == 0 for row in of)) for column in ("before", "now")]
        name = "**all**" if kind == "all" else kind
        lines.append(f"| {name} | {len(of)} | {' | '.join(means)} | {' | '.join(zeros)} |")
    return "\n".join(lines)


def measured_table(found: dict[str, dict[str, Drawn]]) -> str:
    """The measures by kind and method, over the cases whose surroundings are known."""
    lines = [
        "| kind | method | LSWD | GHD | seam | mean error, drawn | seconds | peak MB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for kind in dict.fromkeys(drawn.case.kind for drawn in found["now"].values()):
        for method, by_name in found.items():
            of = [drawn for drawn in by_name.values() if drawn.case.kind == kind]
            if not of:
                continue
            measured = [(drawn.case, _scores(drawn)) for drawn in of if drawn.case.truth is not None]
            exact = [scored.mean_error for case, scored in measured if case.is_exact]
            cells = [
                f"{mean(scored.lswd for _, scored in measured):.3f}",
                f"{mean(scored.ghd for _, scored in measured):.2f}",
                f"{mean(scored.seam for _, scored in measured):.2f}",
                f"{mean(exact):.1f}" if exact else "",
                f"{mean(drawn.run.seconds for drawn in of):.2f}",
                f"{mean(drawn.run.megabytes for drawn in of):.0f}",
            ]
            lines.append(f"| {kind} | {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def truth_table(found: dict[str, dict[str, Drawn]]) -> str:
    """Of each drawn picture whose truth is exact: the mean and the largest error in the new area."""
    methods = [method for method in ("before", "now", "mirror", "OpenCV Telea") if method in found]
    lines = ["| mean (largest) error in levels | " + " | ".join(methods) + " |", "|---|" + "---|" * len(methods)]
    for name, drawn in found["now"].items():
        if drawn.case.is_exact:
            measured = [_scores(found[method][name]) for method in methods]
            cells = [f"{scored.mean_error:.1f} ({scored.largest_error:.0f})" for scored in measured]
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _scores(drawn: Drawn) -> Scores:
    kept = drawn.path.with_suffix(".scores.json")
    code = digest([(Path(__file__).parent / "measures.py").read_bytes()])
    known = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    if known.get("code") != code:
        case = drawn.case
        assert case.truth is not None
        height, width = case.pixels.shape[:2]
        known = {"code": code, "scores": asdict(scores(drawn.pixels(), case.truth, case.canvas, width, height))}
        kept.write_text(json.dumps(known), encoding="utf-8")
    return Scores(**known["scores"])


# Sheets


def sheet_of(shown: Sequence[Case], found: dict[str, dict[str, Drawn]]) -> Image.Image:
    """A row for each case, with its scores."""
    by_eye = eye()
    columns = [method for method in ON_SHEETS if all(case.name in found.get(method, {}) for case in shown)]
    rows = []
    for case in shown:
        score = by_eye.get(case.name)
        label = f"{case.name}   {score['before']} > {score['now']}" if score else case.name
        images = [Image.open(found[method][case.name].path) for method in columns]
        rows.append((label, [framed(case.pixels, case.canvas), *images]))
    return sheet(["original", *columns], rows, 270)


def write_sheets(found: dict[str, dict[str, Drawn]], folder: Path, *, free_only: bool) -> None:
    """A sheet for each kind; or only those of drawn pictures, and one of the photographs that may be shown anywhere."""
    folder.mkdir(exist_ok=True)
    by_kind: dict[str, list[Case]] = {}
    for drawn in found["now"].values():
        case = drawn.case
        kind = case.kind if case.kind in SCENES or not free_only else "photographs" if case.name in FREE else None
        if kind is not None and not case.name.endswith(MIDDLE):
            by_kind.setdefault(kind, []).append(case)
    for kind, shown in by_kind.items():
        save(sheet_of(shown, found), folder / f"{slug(kind)}.jpg", MOST_IN_DOCS if free_only else MOST)


def write_docs(found: dict[str, dict[str, Drawn]]) -> None:
    page = DOCS / "local-engine.md"
    text = page.read_text(encoding="utf-8")
    table = f"<!-- scores -->\n{eye_table()}\n<!-- /scores -->"
    page.write_text(re.sub(r"<!-- scores -->.*<!-- /scores -->", lambda _: table, text, flags=re.S), encoding="utf-8")
    write_sheets(found, DOCS / "local", free_only=True)


# Speed


def measure_speed(names: Sequence[str], repeats: int, sources: dict[str, Path]) -> None:
    """All methods in turn before the next round, so that what else the machine does is shared."""
    galaxies = next(case for case in cases() if case.name == "galaxies, middle").truth
    assert galaxies is not None
    side = min(galaxies.shape[:2])
    results: dict[tuple[str, int], list[Run]] = {}
    for before, after in SIZES:
        square = Image.fromarray(galaxies[:side, :side]).resize((before, before), Image.Resampling.LANCZOS)
        original = OUT / f"speed-{before}.png"
        square.save(original)
        job = Job(original, Canvas.of(Frame.around(before, before, zoom=after / before)), OUT / "speed.png")
        for _ in range(repeats):
            for name in names:
                measured = results.setdefault((name, before), [])
                if not measured or measured[-1].seconds < SLOW:
                    measured.extend(done for _, done in run(name, [job], sources[name]))
    print("\n| median seconds, peak MB | " + " | ".join(f"{before} -> {after}" for before, after in SIZES) + " |")
    print("|---|" + "---|" * len(SIZES))
    for name in names:
        cells = [
            f"{median(done.seconds for done in results[name, before]):.2f} s, "
            f"{median(done.megabytes for done in results[name, before]):.0f} MB"
            for before, _ in SIZES
        ]
        print(f"| {name} | " + " | ".join(cells) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description="The local engine beside other methods.")
    parser.add_argument("--before", metavar="REV", help="the revision that is called before")
    parser.add_argument("--methods", help="names of methods, with semicolons between them")
    parser.add_argument("--kinds", help="names of kinds, with semicolons between them")
    parser.add_argument("--speed", action="store_true", help="measure speed at three sizes instead")
    parser.add_argument("--repeats", type=int, default=3, help="of --speed")
    parser.add_argument("--docs", action="store_true", help="renew the table and the sheets in docs/")
    given = parser.parse_args()
    OUT.mkdir(exist_ok=True)
    names = given.methods.split(";") if given.methods else list(COMPARED)
    for name in names:
        if name not in METHODS:
            parser.error(f"there is no method {name!r}, but " + ", ".join(METHODS))
        if not is_installed(name):
            print(f"{name} is left out: it is not installed.")
    with source_of(given.before) as before:
        names = [name for name in names if is_installed(name) and (name != "before" or before is not None)]
        sources = {name: before if name == "before" and before is not None else PROJECT / "src" for name in names}
        if given.speed:
            measure_speed(names, given.repeats, sources)
            return
        if missing_packages():
            print("Pictures are left out, for want of these packages: " + ", ".join(missing_packages()))
        wanted = [case for case in cases() if given.kinds is None or case.kind in given.kinds.split(";")]
        found = {
            name: drawn_by(name, [case for case in wanted if case.kind in ONLY.get(name, (case.kind,))], sources[name])
            for name in names
        }
    if "now" in found:
        print(f"\n{measured_table(found)}\n\n{truth_table(found)}")
        write_sheets(found, OUT / "sheets", free_only=False)
        print(f"\nThe contact sheets are in {OUT / 'sheets'}")
        if given.docs:
            write_docs(found)
    if eye():
        print(f"\n{eye_table()}")


if __name__ == "__main__":
    main()
