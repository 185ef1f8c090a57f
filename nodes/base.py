"""What all our nodes have in common: how the host calls them, and how rows of a table become nodes."""

import logging
from collections.abc import Callable, Mapping
from typing import ClassVar

from comfy_api.latest import io

from ..host.schema import schema
from ..host.told import Told
from .kinds import plain, problem, source
from .values import number_problem

# What the names of ADE's nodes end with, by which people search for them: in general, of its first and of its second generation.
MARK = "\U0001f3ad\U0001f150\U0001f153"
MARK_1, MARK_2 = f"{MARK}\u2460", f"{MARK}\u2461"


class EmptyInput(Told, ValueError):
    """A required input got nothing. The message names it, and what to connect."""


class WrongInput(Told, ValueError):
    """An input got something else than it takes. The message names it, and what to connect."""


class Node(io.ComfyNode):
    """A node of this pack: a subclass has ``define_schema`` and ``run``. The host calls ``execute``."""

    # Inputs that older workflow files know by another name: that name -> ours.
    renamed: ClassVar[Mapping[str, str]] = {}

    @classmethod
    def run(cls, **inputs):
        """The node's work. Gets the inputs that hold something, by name; returns the output, or a NodeOutput of several."""
        raise NotImplementedError

    @classmethod
    def execute(cls, **inputs) -> io.NodeOutput:
        result = cls.run(**filled(cls.define_schema(), inputs, cls.renamed))
        return result if isinstance(result, io.NodeOutput) else io.NodeOutput(result)


def filled(schema: io.Schema, inputs: Mapping[str, object], renamed: Mapping[str, str]) -> dict[str, object]:
    """The inputs that hold something, under the names they have now.

    None, which an empty switch hands on, counts as not connected. The host also passes on links of old files to
    inputs that a node no longer has: the log tells that they have no effect. Raises EmptyInput and WrongInput.
    """
    known = {entry.id: entry for entry in schema.inputs}
    if unknown := ", ".join(sorted(inputs.keys() - known - renamed.keys())):
        logging.warning(
            "[AnimateDiff] %s has no input %s: what is linked to it has no effect.", schema.node_id, unknown
        )
    given = {renamed.get(name, name): value for name, value in inputs.items() if not _empty(value, schema)}
    found = {name: plain(known[name], value) for name, value in given.items() if name in known}
    for name, entry in known.items():
        if not entry.optional and name not in found:
            raise EmptyInput(
                f"The input {name} of {schema.display_name} is empty: what is linked to it gave nothing, as a switch "
                f"without a choice does. Connect {source(entry)}."
            )
    for name, value in found.items():
        entry = known[name]
        for one in value if schema.is_input_list else [value]:
            if wrong := problem(entry, one) or number_problem(entry, one):
                raise WrongInput(f"The input {name} of {schema.display_name} {wrong}. Connect {source(entry)}.")
    return found


def _empty(value, schema: io.Schema) -> bool:
    return value is None or (schema.is_input_list and all(one is None for one in value))


def node(
    run: Callable,
    *,
    node_id: str,
    display_name: str,
    category: str,
    description: str,
    inputs: list[io.Input] | Callable[[], list[io.Input]],
    outputs: list[io.Output],
    old_name: str = "",
    aliases: tuple[str, ...] = (),
    base: type[Node] = Node,
    **fields,
) -> type[Node]:
    """A node that hands its inputs to ``run``: a row of a table of nodes that differ in inputs and texts only.

    ``inputs`` that list files are a function, which is asked for each request. The search finds the node by ``old_name``,
    with the mark that ADE's names end with, and by ``aliases`` as well; ``base``: for the class that it is made of;
    ``fields`` are more of io.Schema's.
    """

    class Row(base):
        @classmethod
        def define_schema(cls):
            return schema(
                node_id=node_id,
                display_name=display_name,
                category=category,
                description=description,
                search_aliases=[*([f"{old_name} {MARK}"] if old_name else []), *aliases],
                inputs=inputs() if callable(inputs) else inputs,
                outputs=outputs,
                **fields,
            )

    Row.run = staticmethod(run)
    Row.__name__ = node_id
    return Row
