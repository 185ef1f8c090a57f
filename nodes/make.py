"""Node classes made from a function and a table row: for families of nodes that differ in inputs and texts only."""

import logging
from collections.abc import Callable, Iterable

from comfy_api.latest import io

from ..host.schema import schema


def tell_unknown(node_id: str, names: Iterable[str]) -> None:
    """One line in the log for links to inputs that a node no longer has; the host passes those of old files on."""
    if names := ", ".join(sorted(names)):
        logging.warning("[AnimateDiff] %s has no input %s: what is linked to it has no effect.", node_id, names)


def node(run: Callable, inputs: list[io.Input], outputs: list[io.Output], **fields) -> type[io.ComfyNode]:
    """A node that hands its inputs to ``run`` by name; ``fields`` are those of the schema.

    ``run`` returns the output, or an io.NodeOutput where there are several. None, which an empty switch hands on, counts
    as not connected.
    """
    known = {entry.id for entry in inputs}

    class Node(io.ComfyNode):
        @classmethod
        def define_schema(cls):
            return schema(inputs=inputs, outputs=outputs, **fields)

        @classmethod
        def execute(cls, **values):
            tell_unknown(fields["node_id"], values.keys() - known)
            result = run(**{name: value for name, value in values.items() if name in known and value is not None})
            return result if isinstance(result, io.NodeOutput) else io.NodeOutput(result)

    Node.__name__ = fields["node_id"]
    return Node


def family(category: str) -> Callable[..., type[io.ComfyNode]]:
    """``node`` for the nodes of one ``category``, found in the search by their ``old_name`` as well."""

    def make(
        node_id: str,
        name: str,
        old_name: str,
        description: str,
        run: Callable,
        inputs: list[io.Input],
        output: io.Output,
        folder: str = "",
    ) -> type[io.ComfyNode]:
        return node(
            run,
            inputs,
            [output],
            node_id=node_id,
            display_name=name,
            category=f"{category}/{folder}".rstrip("/"),
            description=description,
            search_aliases=[f"{old_name} 🎭🅐🅓"],
        )

    return make
