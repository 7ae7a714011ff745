"""Writes the generated parts of the README between their markers; with --check, says whether they are up to date."""

import sys
from collections.abc import Callable
from pathlib import Path

from outpaint_mcp.domain import errors
from outpaint_mcp.providers import provider_classes
from outpaint_mcp.settings import Settings

README = Path(__file__).resolve().parent.parent / "README.md"


def providers() -> str:
    """The feature table, from the providers' declarations."""
    lines = ["| provider | extends | price | features, with their limits |", "|---|---|---|---|"]
    for name, one in provider_classes().items():
        features = []
        for kind in one.features:
            words = {
                "zoom": str(one.zoom[kind]),
                **{feature.value: text for feature, text in one.features[kind].items()},
            }
            label = "a task's image" if kind == "task" else "an own picture"
            features.append(f"**{label}**: " + "; ".join(f"`{feature}` {text}" for feature, text in words.items()))
        cell = "<br>".join(features).replace("|", "\\|")
        lines.append(f"| [`{name}`]({one.docs_url}) | {', '.join(one.sources)} | {one.price} | {cell} |")
    return "\n".join(lines)


def settings() -> str:
    """The settings, from their declarations."""
    lines = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None or field.default_factory is not None else f"`{field.default}`"
        default = {"`True`": "`true`", "`False`": "`false`", "`()`": ""}.get(default, default)
        lines.append(f"| `OUTPAINT_{name.upper()}` | {default} | {field.description} |")
    return "\n".join(lines)


def codes() -> str:
    """The errors, from their classes."""
    lines = ["| code | what to do, if the error does not say more |", "|---|---|"]
    for one in vars(errors).values():
        if isinstance(one, type) and "code" in vars(one):
            lines.append(f"| `{one.code}` | {one.default_advice} |")
    return "\n".join(lines)


PARTS: dict[str, Callable[[], str]] = {"providers": providers, "settings": settings, "errors": codes}


def generated(text: str) -> str:
    """The README's text with its generated parts as they are to be.

    Raises:
        ValueError: a marker is missing.
    """
    for name, part in PARTS.items():
        begin, end = f"<!-- begin {name} -->\n", f"\n<!-- end {name} -->"
        before, rest = text.split(begin)
        _, after = rest.split(end)
        text = before + begin + part() + end + after
    return text


def main() -> int:
    text = README.read_text(encoding="utf-8")
    wanted = generated(text)
    if "--check" in sys.argv[1:]:
        if wanted != text:
            print("README.md is not up to date: run .venv/bin/python scripts/readme.py")
        return int(wanted != text)
    README.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
