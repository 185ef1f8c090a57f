"""The help page of each node, which ComfyUI shows beside the graph: `python dev/help/pages.py` writes web/docs/<node id>.md anew.

What a page says of inputs, defaults, ranges and outputs comes from the node. The rest is written by hand, in dev/help/*.md:

    # ADE_FirstNode, ADE_SecondNode

    What it is for. [AnimateDiff: Use Evolved Sampling] in brackets becomes a link to that node's page, *KSampler* is one of ComfyUI's own.

    * `context_length`: what its values do; stands below the tooltip, on the pages of those of the nodes that have the input.

    ## Example

    Stands behind the outputs.

A section may name several nodes, and a node may be in several sections: their texts stand behind each other, in the order of the
files' names and of the sections in a file. Of an input with several such texts the last one counts. Pictures are in
web/docs/pictures, drawn by dev/help/pictures.py.

The front end asks for extensions/<folder of the pack>/docs/<node id>/<locale>.md first and then for docs/<node id>.md, looks for
pictures beside the pages, and opens links in another tab. It knows no link from page to page, so these lead to the repository that
pyproject.toml names; while it names none, they are names without a link.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TEXTS = Path(__file__).resolve().parent
ROOT = TEXTS.parent.parent
PAGES = ROOT / "web" / "docs"
REPOSITORY = re.search(r'^Repository = "(.*)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)[1]
# Combos whose choices are those of the ComfyUI and the folders at hand.
NOT_OURS = ("sampler_name", "scheduler", "pose_filename", "folder")
WIDGETS = ("COMBO", "INT", "FLOAT", "STRING", "BOOLEAN")
UNBOUNDED = 99_999  # what is beyond is no bound that anybody meets
LINK = re.compile(r"(?<!!)\[([^\[\]]+)\](?![(\[])")
ADVICE = re.compile(r"\* `(\w+)`: (.+)", re.DOTALL)
Source = Callable[[Any], str]
DEPRECATED = "Workflows that have this node run as they did."
MARK = "➤"  # ahead of advice, which stands in a line of its own


class WrongText(ValueError):
    """A text in dev/help that does not fit the nodes; the message says which and why."""


@dataclass
class Text:
    """What is written by hand of one node: markdown ahead of the inputs, of single inputs, and behind the outputs."""

    ahead: list[str] = field(default_factory=list)
    advice: dict[str, str] = field(default_factory=dict)
    behind: list[str] = field(default_factory=list)


def texts(schemas: dict[str, Any]) -> dict[str, Text]:
    """The texts of dev/help by node id. Raises WrongText where one names a node or an input that does not exist."""
    found = {node_id: Text() for node_id in schemas}
    for file in sorted(TEXTS.glob("*.md")):
        for section in re.split(r"^# ", file.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
            heading, _, body = section.partition("\n")
            ids = re.split(r",\s*", heading.strip())
            if missing := [node_id for node_id in ids if node_id not in schemas]:
                raise WrongText(f"{file.name}: there is no node {missing[0]}")
            _add(body, [(schemas[node_id], found[node_id]) for node_id in ids], file.name)
    return found


def _add(body: str, nodes: list[tuple[Any, Text]], file: str) -> None:
    """Add the body of a section to the texts of its nodes."""
    behind = False
    for block in re.split(r"\n\s*\n|\n(?=\* `\w+`: )", body.strip("\n")):
        behind |= block.startswith("## ")
        if advice := ADVICE.fullmatch(block):
            name, words = advice[1], " ".join(advice[2].split())
            takers = [text for schema, text in nodes if name in {entry.id for entry in schema.inputs}]
            if not takers:
                raise WrongText(f"{file}: {nodes[0][0].node_id} has no input {name}")
            for text in takers:
                text.advice[name] = words
        elif block.strip():
            for _, text in nodes:
                (text.behind if behind else text.ahead).append(block)


def page(schema: Any, text: Text, ids: dict[str, str], source: Source) -> str:
    """The markdown of a node's page. ``ids``: node id by display name. ``source(input)``: what to connect to it."""
    title, does = f"# {schema.display_name}", _one_line(schema.description)
    linked = _linked(schema, text, ids)
    if schema.is_deprecated:
        blocks = [title, " ".join([does, *text.ahead, DEPRECATED])]
    else:
        blocks = [title, does, *text.ahead]
        others = ids.keys() - {schema.display_name}
        if schema.inputs:
            lines = [_input(entry, text.advice.get(entry.id, ""), others, source) for entry in schema.inputs]
            blocks += ["## Inputs", "\n".join(lines)]
            linked |= {source(entry) for entry in schema.inputs if _is_socket(entry)} & others
        if schema.outputs:
            blocks += ["## Outputs", "\n".join(map(_output, schema.outputs))]
        blocks += text.behind
    if not REPOSITORY:  # nowhere to lead to, before a publication
        return LINK.sub(lambda link: f"*{link[1]}*" if link[1] in linked else link[0], "\n\n".join(blocks)) + "\n"
    links = [f"[{name}]: {REPOSITORY}/blob/main/web/docs/{ids[name]}.md" for name in sorted(linked)]
    return "\n\n".join([*blocks, *(["\n".join(links)] if links else [])]) + "\n"


def _linked(schema: Any, text: Text, ids: dict[str, str]) -> set[str]:
    """The nodes that a text names in brackets. Raises WrongText for one that does not exist."""
    written = "\n".join([*text.ahead, *text.advice.values(), *text.behind])
    names = set(LINK.findall(re.sub(r"`[^`]*`", "", written)))
    if unknown := sorted(names - ids.keys()):
        raise WrongText(f"the text of {schema.node_id} links to {unknown[0]}, but no node has that name")
    return names


def _input(entry: Any, advice: str, others: set[str], source: Source) -> str:
    facts = _facts(entry, others, source)
    tooltip = "" if hasattr(entry, "key") else _one_line(entry.tooltip)
    told = f"- **{entry.id}** ({facts}): {tooltip}{_choices(entry)}".rstrip(" :")
    return f"{told}\\\n  {MARK} {advice}" if advice else told


def _output(output: Any) -> str:
    return f"- **{output.display_name or output.get_io_type()}**: {_one_line(output.tooltip)}"


def _default(combo: Any) -> str:
    return combo.options[0] if combo.default is None else combo.default


def _choices(entry: Any) -> str:
    if str(entry.get_io_type()) != "COMBO" or hasattr(entry, "key") or entry.id in NOT_OURS:
        return ""
    others = ", ".join(option for option in entry.options if option != _default(entry))
    return f" Or: {others}." if others else ""


def _is_socket(entry: Any) -> bool:
    return bool(getattr(entry, "force_input", False)) or str(entry.get_io_type()) not in WIDGETS


def _facts(entry: Any, others: set[str], source: Source) -> str:
    """What stands in brackets behind the name of an input: its default and range, or which of ``others`` to connect."""
    io_type = str(entry.get_io_type()).replace(",", ", ")  # of several types
    if hasattr(entry, "key"):
        return f"a file in `models/{entry.key}`"
    if io_type == "COMBO":
        if entry.id in NOT_OURS:
            return "a choice"
        return f"default {_default(entry)}"
    if _is_socket(entry):
        name = source(entry)
        return (f"from [{name}]" if name in others else io_type) + (", optional" if entry.optional else "")
    if io_type == "BOOLEAN":
        return "default on" if entry.default else "default off"
    if io_type == "STRING":
        return f"default `{_one_line(entry.default)}`" if entry.default else "text"
    low, high = (
        None if bound is None or abs(bound) > UNBOUNDED else _number(bound) for bound in (entry.min, entry.max)
    )
    bounds = {(True, True): f"; {low} to {high}", (True, False): f"; from {low}", (False, True): f"; up to {high}"}
    return f"default {_number(entry.default)}" + bounds.get((low is not None, high is not None), "")


def _number(value: float) -> str:
    return str(value).removesuffix(".0")


def _one_line(text: str) -> str:
    return " ".join(text.split())


def pages(nodes: list[type], source: Source) -> dict[str, str]:
    """The pages of the pack's node classes, by node id. Raises WrongText for texts that do not fit them."""
    schemas = {schema.node_id: schema for schema in (node.GET_SCHEMA() for node in nodes)}
    # of two nodes with one name, one of which is deprecated, links lead to the other
    ids = {one.display_name: one.node_id for one in sorted(schemas.values(), key=lambda one: not one.is_deprecated)}
    by_hand = texts(schemas)
    return {node_id: page(schema, by_hand[node_id], ids, source) for node_id, schema in schemas.items()}


def main() -> None:
    sys.path.insert(0, str(ROOT / "dev"))
    import hosts
    from pack import load_pack

    pack = load_pack(hosts.host().path, ["--cpu"])
    made = pages(pack.submodule("nodes").NODES, pack.submodule("nodes.kinds").source)
    PAGES.mkdir(parents=True, exist_ok=True)
    for file in PAGES.glob("*.md"):
        if file.stem not in made:
            file.unlink()
    for node_id, text in made.items():
        (PAGES / f"{node_id}.md").write_text(text, encoding="utf-8", newline="\n")
    print(f"{PAGES}: {len(made)} pages")


if __name__ == "__main__":
    main()
