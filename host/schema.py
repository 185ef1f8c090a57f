"""Node schemas, with what a release does not know yet left out."""

import inspect

from comfy_api.latest import io

# Options of a seed that keeps its number from run to run, where the front end would draw a new one each time. Those of
# 0.3.75 take no word for it; there it stays for users to choose.
FIXED_SEED = {"control_after_generate": io.ControlAfterGenerate.fixed} if hasattr(io, "ControlAfterGenerate") else {}
_KNOWN = inspect.signature(io.Schema).parameters


def schema(**fields) -> io.Schema:
    """``io.Schema(**fields)``; search aliases, which 0.3.75 has not, are dropped there."""
    return io.Schema(**{name: value for name, value in fields.items() if name in _KNOWN})


def nothing(outputs: int) -> io.NodeOutput:
    """For a node with so many outputs: what is connected to them is not run."""
    from comfy_execution.graph_utils import ExecutionBlocker

    return io.NodeOutput(*[ExecutionBlocker(None)] * outputs)
