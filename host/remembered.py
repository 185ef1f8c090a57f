"""What was read of a file is found again as long as somebody has it: a change beside the file reads nothing anew.

The host runs a node again when one of its inputs has changed, and may let go of what the node gave before. Right before that
it asks all nodes of the prompt for their fingerprints. That is when ``expect`` keeps what they may read, for as long as the
host works on this prompt, or is idle behind it.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")
# Kind, path and state of the file -> what was read.
_found: weakref.WeakValueDictionary[tuple, Any] = weakref.WeakValueDictionary()


class _Expected:
    """What is kept by the path of its file, and the prompt for which: by what the host makes for each and then lets go of."""

    def __init__(self) -> None:
        self.prompt: Callable[[], object] = lambda: None
        self.kept: dict[str, list] = {}

    def of_this_prompt(self) -> dict[str, list]:
        progress = getattr(sys.modules.get("comfy_execution.progress"), "get_progress_state", None)
        if progress is None:  # nothing is kept beyond what the host keeps
            return {}
        prompt = progress()
        if self.prompt() is not prompt:
            self.kept = {}
            self.prompt = weakref.ref(prompt, lambda gone: self.kept.clear() if self.prompt is gone else None)
        return self.kept


_expected = _Expected()


def read_once(kind: object, path: str, state: object, read: Callable[[], T]) -> T:
    """What ``read()`` gives of the file ``path``, or gave before, if somebody still has it and ``state`` is the same.

    ``kind``: says what is read, and how. ``state``: that of the file; None: unknown, and it is read.
    """
    _expected.of_this_prompt()  # what was kept for an earlier prompt goes before anything comes
    if state is None:
        return read()
    key = (kind, path, state)
    found = _found.get(key)
    if found is None:
        found = _found[key] = read()
    return found


def expect(path: str, state: object) -> None:
    """Keep what was read of the file ``path``, whose state is ``state``, for the prompt that the host begins with."""
    found = [value for key, value in _found.items() if key[1:] == (path, state)]
    _expected.of_this_prompt()[path] = found
