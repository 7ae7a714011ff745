"""What `doctor` finds, and how it is shown: as text for people, as JSON for programs."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Final

NO_VENDOR_CONTACTED: Final = "No vendor was contacted: whether a key is valid shows when it is first used."
CONTACTED: Final = "Vendors were asked about their keys; nothing was ordered."


class Level(StrEnum):
    """``ok``; ``warning``: it works, but perhaps not as intended; ``problem``: something does not work."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check: a sentence, and unless it is `ok` another one on what to do."""

    name: str
    level: Level
    message: str
    advice: str = ""


def exit_code(findings: Sequence[Finding]) -> int:
    """0 if there is no problem, else 2."""
    return 2 if any(finding.level is Level.PROBLEM for finding in findings) else 0


def as_lines(findings: Sequence[Finding]) -> str:
    """One line per finding, with what to do below it."""
    lines = []
    for finding in findings:
        lines.append(f"{finding.level.value:8} {finding.name}: {finding.message}")
        if finding.advice:
            lines.append(f"{'':8} -> {finding.advice}")
    return "\n".join(lines)


def as_text(findings: Sequence[Finding], *, asked: bool = False) -> str:
    """As `as_lines`, with a summary. `asked` says whether vendors were contacted."""
    counts = {level: sum(finding.level is level for finding in findings) for level in (Level.PROBLEM, Level.WARNING)}
    names = [f"{count} {level.value}{'' if count == 1 else 's'}" for level, count in counts.items() if count]
    summary = f"{', '.join(names) or 'All is well'}. {CONTACTED if asked else NO_VENDOR_CONTACTED}"
    return f"{as_lines(findings)}\n\n{summary}"


def as_json(findings: Sequence[Finding], *, asked: bool = False) -> str:
    """``{"findings": [{name, level, message, advice}], "ok": …, "vendors_asked": …}``."""
    report = {
        "ok": exit_code(findings) == 0,
        "vendors_asked": asked,
        "findings": [asdict(finding) for finding in findings],
    }
    return json.dumps(report, indent=2)


def problem(name: str, message: str, advice: str) -> Finding:
    return Finding(name, Level.PROBLEM, message, advice)


def warning(name: str, message: str, advice: str) -> Finding:
    return Finding(name, Level.WARNING, message, advice)
