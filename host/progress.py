"""What a node shows while it runs: a progress bar, with an end when the user presses Stop, and a line of text."""

import sys
from collections.abc import Collection, Iterator
from typing import TypeVar

import comfy.model_management
import comfy.utils
from comfy_execution.utils import get_executing_context

Item = TypeVar("Item")
_noted: set[str] = set()  # nodes that show a note; the front end keeps it until another one comes


def in_steps(items: Collection[Item]) -> Iterator[Item]:
    """``items`` one by one, each a step of the bar. Raises the host's exception for Stop in front of the next."""
    bar = comfy.utils.ProgressBar(len(items))
    for item in items:
        comfy.model_management.throw_exception_if_processing_interrupted()
        yield item
        bar.update(1)


def show_text(text: str, node_id: str) -> None:
    """Show a text on a node, where a front end is there to do so."""
    # not imported: where no server runs there is none to tell
    server = getattr(getattr(sys.modules.get("server"), "PromptServer", None), "instance", None)
    send = getattr(server, "send_progress_text", None)  # all goes on without it
    if send is not None:
        send(text, node_id)


def note(text: str) -> None:
    """Show on the node that runs what became of it, where it is not what the user asked for; "" takes an older note away."""
    context = get_executing_context()
    if context is None:  # called by a script
        return
    if text:
        _noted.add(context.node_id)
        show_text(text, context.node_id)
    elif context.node_id in _noted:
        _noted.remove(context.node_id)
        show_text(" ", context.node_id)  # an empty one would be ignored
