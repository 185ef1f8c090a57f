"""Prompts through the host's own executor, in this process: its checks of a prompt, its caches, its way with errors.

    graph = Graph()
    graph("Keep", value=graph("KSampler", model=graph("TinyModel"), …))
    outcome = Prompts().run(graph)

No server is needed, and no weights: stand_ins.py has the small models, and nodes that hand on or keep any value.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import inspect
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace

# Of the host, beside what its module `nodes` holds; loaded by the host's own function.
CORE = (
    "nodes_context_windows",
    "nodes_controlnet",
    "nodes_custom_sampler",
    "nodes_easycache",
    "nodes_hooks",
    "nodes_images",
    "nodes_mask",
    "nodes_model_advanced",
    "nodes_pag",
    "nodes_perpneg",
    "nodes_sag",
    "nodes_torch_compile",
    "nodes_train",
)

Link = list  # [node, output]: as in API prompts


class Graph:
    """An API prompt in the making. Calling it adds a node and gives the link to its first output."""

    def __init__(self):
        self.prompt: dict[str, dict] = {}

    def __call__(self, class_type: str, **inputs) -> Link:
        # equal nodes are one node, so that a graph may be put together from parts
        node = {"class_type": class_type, "inputs": inputs}
        name = next((name for name, other in self.prompt.items() if other == node), str(len(self.prompt) + 1))
        self.prompt[name] = node
        return [name, 0]

    def inputs(self, link: Link) -> dict:
        return self.prompt[link[0]]["inputs"]


def output(link: Link, index: int) -> Link:
    """The link to another output of the same node."""
    return [link[0], index]


@dataclass
class Outcome:
    """What became of a prompt: what its Keep nodes got, or why it ended and at which node (its class)."""

    kept: dict[str, object] = field(default_factory=dict)
    error: BaseException | None = None
    message: str = ""
    node: str = ""

    @property
    def refused(self) -> bool:
        return bool(self.message)

    @property
    def value(self):
        """What was kept under the usual name. Raises what ended the prompt."""
        if self.error is not None:
            raise self.error
        assert not self.refused, self.message
        return self.kept["value"]


def node_classes() -> dict[str, type]:
    """The host's table of nodes."""
    return importlib.import_module("nodes").NODE_CLASS_MAPPINGS


@contextlib.contextmanager
def registered(pack, stand_ins: dict[str, type]) -> Iterator[None]:
    """The pack's nodes, ``stand_ins`` and the CORE nodes in the host's table, which is as before afterwards."""
    host_nodes = importlib.import_module("nodes")
    table = host_nodes.NODE_CLASS_MAPPINGS
    before = dict(table)
    folder = os.path.join(os.path.dirname(host_nodes.__file__), "comfy_extras")
    known = [path for name in CORE if os.path.isfile(path := os.path.join(folder, f"{name}.py"))]
    for path in known:
        assert asyncio.run(host_nodes.load_custom_node(path, module_parent="comfy_extras")), path
    table.update({node.GET_SCHEMA().node_id: node for node in pack.submodule("nodes").NODES})
    table.update(stand_ins)
    try:
        yield
    finally:
        table.clear()
        table.update(before)


class Prompts:
    """The host's executor with caches of its own. ``remember``: keep the outputs of so many nodes between prompts.

    ``cache``: another of its CacheTypes, such as the RAM_PRESSURE that newer releases begin with.
    """

    def __init__(self, keep: dict[str, object], remember: int = 0, cache: str = "CLASSIC"):
        """``keep`` is where the Keep nodes put what they get."""
        self.execution = importlib.import_module("execution")
        self.keep = keep
        self.ended: list[tuple[BaseException, str]] = []
        note = self.ended.append

        class Executor(self.execution.PromptExecutor):
            def handle_execution_error(self, prompt_id, prompt, current_outputs, executed, error, ex):
                note((ex, prompt[error["node_id"]]["class_type"]))
                super().handle_execution_error(prompt_id, prompt, current_outputs, executed, error, ex)

        server = SimpleNamespace(client_id=None, last_node_id=None, sockets_metadata={})
        server.send_sync = server.send_progress_text = lambda *_, **__: None
        kind = self.execution.CacheType["LRU" if remember else cache]
        # what only earlier prompts need goes once there is less memory than that, so at once
        plenty = 2.0**20 if cache == "RAM_PRESSURE" else 0.0
        self.executor = Executor(server, kind, {"lru": remember, "ram": 0.0, "ram_inactive": plenty})
        self.count = 0

    def run(self, graph: Graph) -> Outcome:
        """Check and execute a prompt as the host does when it is queued."""
        self.count += 1
        name = f"prompt-{self.count}"
        prompt = {key: {**node, "inputs": dict(node["inputs"])} for key, node in graph.prompt.items()}
        self.keep.clear()
        self.ended.clear()
        # releases before 0.3.50 have no names for prompts, later ones ask which outputs are wanted
        arguments = [name, prompt, None][: len(inspect.signature(self.execution.validate_prompt).parameters)]
        valid, error, outputs, node_errors = asyncio.run(self.execution.validate_prompt(*arguments))
        if not valid:
            return Outcome(message=_told(error, node_errors), node=_first_class(node_errors))
        self.executor.execute(prompt, name, {}, outputs)
        if self.ended:
            ex, node = self.ended[0]
            return Outcome(dict(self.keep), ex, str(ex) or type(ex).__name__, node)
        return Outcome(dict(self.keep))


def _told(error: dict, node_errors: dict) -> str:
    """What the front end shows of a prompt that the host refuses."""
    of_nodes = [f"{one['message']}: {one['details']}" for node in node_errors.values() for one in node["errors"]]
    return "\n".join(of_nodes) or f"{error['message']}: {error['details']}"


def _first_class(node_errors: dict) -> str:
    return next((node["class_type"] for node in node_errors.values()), "")
