"""Every node with its id and what it does, for readers and for ComfyUI-Manager: `python dev/node_index.py` writes both anew.

docs/nodes.md is the page. node_list.json is where the Manager's scanner finds ids that it cannot read off the source
(a table of id -> description); ours come from tables and f-strings. With it, "Install missing nodes" finds this pack.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "nodes.md"
LIST = ROOT / "node_list.json"
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
        lines += [f"| {s.display_name} | `{s.node_id}` | {one_line(s.description)} |" for s in schemas]
        lines.append("")
    return "\n".join(lines)


def node_list(nodes: list[type]) -> str:
    """The text of node_list.json for the pack's node classes."""
    schemas = sorted((node.GET_SCHEMA() for node in nodes), key=lambda schema: schema.node_id)
    table = {s.node_id: one_line(s.description) for s in schemas}
    return json.dumps(table, indent=1, ensure_ascii=False) + "\n"


def one_line(text: str) -> str:
    return " ".join(text.split())


def main() -> None:
    sys.path.insert(0, str(ROOT / "dev"))
    import hosts
    from pack import load_pack

    nodes = load_pack(hosts.host().path, ["--cpu"]).submodule("nodes").NODES
    for file, text in ((PAGE, page(nodes)), (LIST, node_list(nodes))):
        file.write_text(text, encoding="utf-8")
        print(f"{file}: {len(nodes)} nodes")


if __name__ == "__main__":
    main()
