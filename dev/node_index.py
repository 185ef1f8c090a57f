"""docs/nodes.md: every node with its id and what it does. `python dev/node_index.py` writes it anew."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "nodes.md"
HEAD = """# Nodes

Written by `python dev/node_index.py`. Ids that begin with `ADE_`, and a few old ones, are those of ComfyUI-AnimateDiff-Evolved, so that
its workflow files and API prompts run; in ComfyUI's search the old names find these nodes as well.
"""


def page(nodes: list[type]) -> str:
    """The text of docs/nodes.md for the pack's node classes."""
    by_category: dict[str, list] = {}
    for node in nodes:
        schema = node.GET_SCHEMA()
        by_category.setdefault(schema.category, []).append(schema)
    lines = [HEAD]
    for category, schemas in sorted(by_category.items()):
        lines += [f"## {category.replace('/', ' / ')}", "", "| node | id | what it does |", "|---|---|---|"]
        lines += [f"| {s.display_name} | `{s.node_id}` | {' '.join(s.description.split())} |" for s in schemas]
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    sys.path.insert(0, str(ROOT / "dev"))
    import hosts
    from pack import load_pack

    nodes = load_pack(hosts.host().path, ["--cpu"]).submodule("nodes").NODES
    PAGE.write_text(page(nodes), encoding="utf-8")
    print(f"{PAGE}: {len(nodes)} nodes")


if __name__ == "__main__":
    main()
