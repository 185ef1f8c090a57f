"""Node classes made from a function and a table row: for families of nodes that differ in inputs and texts only."""

from collections.abc import Callable

from comfy_api.latest import io

from ..host.schema import schema


def node(run: Callable, inputs: list[io.Input], outputs: list[io.Output], **fields) -> type[io.ComfyNode]:
    """A node that hands its inputs to ``run`` by name; ``fields`` are those of the schema.

    ``run`` returns the output, or an io.NodeOutput where there are several.
    """

    class Node(io.ComfyNode):
        @classmethod
        def define_schema(cls):
            return schema(inputs=inputs, outputs=outputs, **fields)

        @classmethod
        def execute(cls, **values):
            result = run(**values)
            return result if isinstance(result, io.NodeOutput) else io.NodeOutput(result)

    Node.__name__ = fields["node_id"]
    return Node
