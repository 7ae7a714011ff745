"""Draws docs/comfyui-workflow.svg: the nodes of docs/comfyui-workflow.json with their titles, and what is connected."""

import json
from html import escape
from pathlib import Path

DOCS = Path(__file__).resolve().parent.parent / "docs"
WIDTH, HEIGHT, ACROSS, DOWN, MARGIN = 190, 58, 60, 24, 16


def main() -> None:
    graph = json.loads((DOCS / "comfyui-workflow.json").read_text("utf-8"))
    columns: dict[int, list[str]] = {}
    for node in graph:
        columns.setdefault(depth(graph, node), []).append(node)
    tallest = max(map(len, columns.values()))
    places = {}
    for column, nodes in columns.items():
        top = MARGIN + (tallest - len(nodes)) * (HEIGHT + DOWN) / 2
        for row, node in enumerate(nodes):
            places[node] = MARGIN + column * (WIDTH + ACROSS), top + row * (HEIGHT + DOWN)
    wide = 2 * MARGIN + len(columns) * (WIDTH + ACROSS) - ACROSS
    tall = 2 * MARGIN + tallest * (HEIGHT + DOWN) - DOWN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {tall}" font-family="sans-serif" font-size="13">',
        f'<rect width="{wide}" height="{tall}" rx="8" fill="#20242c"/>',
    ]
    for node, told in graph.items():
        for value in told["inputs"].values():
            if isinstance(value, list):
                parts.append(link(places[value[0]], places[node]))
    for node, (x, y) in places.items():
        parts += box(x, y, graph[node]["class_type"], graph[node].get("_meta", {}).get("title", ""))
    (DOCS / "comfyui-workflow.svg").write_text("\n".join([*parts, "</svg>", ""]), "utf-8")


def depth(graph: dict, node: str) -> int:
    """How many nodes lie before this one, at the most."""
    before = [value[0] for value in graph[node]["inputs"].values() if isinstance(value, list)]
    return max((depth(graph, one) + 1 for one in before), default=0)


def link(start: tuple[float, float], end: tuple[float, float]) -> str:
    x0, y0, x1, y1 = start[0] + WIDTH, start[1] + HEIGHT / 2, end[0], end[1] + HEIGHT / 2
    bend = max((x1 - x0) / 2, ACROSS / 2)
    path = f"M{x0:g} {y0:g}C{x0 + bend:g} {y0:g} {x1 - bend:g} {y1:g} {x1:g} {y1:g}"
    return f'<path d="{path}" fill="none" stroke="#7f8ea3" stroke-width="1.5"/>'


def box(x: float, y: float, kind: str, title: str) -> list[str]:
    marked = title.startswith("outpaint:")
    colour, ink = ("#3f51b5", "#ffffff") if marked else ("#39404d", "#c9d1dc")
    lines = [f'<rect x="{x:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}" rx="6" fill="{colour}"/>']
    if marked:
        lines.append(f'<text x="{x + 12:g}" y="{y + 25:g}" fill="{ink}" font-weight="bold">{escape(title)}</text>')
    at = y + (44 if marked else 34)
    lines.append(f'<text x="{x + 12:g}" y="{at:g}" fill="{ink}" fill-opacity="0.8">{escape(kind)}</text>')
    return lines


if __name__ == "__main__":
    main()
