"""What a node shows while it runs: a progress bar, with an end when the user presses Stop, and a line of text."""

import asyncio
import sys
from collections.abc import Collection, Iterator
from typing import TypeVar

import comfy.model_management
import comfy.utils
from comfy_execution.utils import get_executing_context

Item = TypeVar("Item")
_noted: dict[str, str] = {}  # by the node that shows it; the front end keeps it until another one comes


def in_steps(items: Collection[Item]) -> Iterator[Item]:
    """``items`` one by one, each a step of the bar. Raises the host's exception for Stop in front of the next."""
    bar = comfy.utils.ProgressBar(len(items))
    for item in items:
        comfy.model_management.throw_exception_if_processing_interrupted()
        yield item
        bar.update(1)


def show_text(text: str, node_id: str) -> None:
    """Show a text on a node while it runs, where a front end is there to do so."""
    if (server := _server()) is not None:
        server.send_progress_text(text, node_id)


def _server():
    # not imported: where no server runs there is none to tell
    server = getattr(getattr(sys.modules.get("server"), "PromptServer", None), "instance", None)
    return server if hasattr(server, "send_progress_text") else None  # all goes on without it


def note(text: str) -> None:
    """Show on the node that runs what became of it, for reading after the run; "" takes an older note away."""
    context = get_executing_context()
    if context is None:  # called by a script
        return
    node_id = context.node_id
    if not text:
        if _noted.pop(node_id, None):
            show_text(" ", node_id)  # an empty one would be ignored
        return
    _noted[node_id] = text
    show_text(text, node_id)
    server = _server()
    if (loop := getattr(server, "loop", None)) is not None:
        asyncio.run_coroutine_threadsafe(_show_again(server, context.prompt_id, node_id), loop)


async def _show_again(server, prompt_id: str, node_id: str) -> None:
    """Show the note of a node once more when the prompt has ended: front end 1.58 then takes all texts off the nodes."""
    while any(item[1] == prompt_id for item in server.prompt_queue.get_current_queue_volatile()[0]):
        await asyncio.sleep(0.1)
    if node_id in _noted:
        server.send_progress_text(_noted[node_id], node_id)
