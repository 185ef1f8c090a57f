"""The dictionary through which animation packs find each other's functions without importing each other.

A plain dict, the attribute ``__DINKLINK`` of the host's module ``comfy.hooks``, with one entry per pack. Advanced-
ControlNet looks there for motion modules (its SparseCtrl) and leaves its own sampler wrapper. Adding this attribute is
the contract; nothing that the host defines is replaced.
"""

from typing import Any

import comfy.hooks

ATTRIBUTE = "__DINKLINK"


def publish(pack: str, entries: dict[str, object]) -> None:
    """Leave ``entries`` for the others under the name ``pack``."""
    if not hasattr(comfy.hooks, ATTRIBUTE):
        setattr(comfy.hooks, ATTRIBUTE, {})
    getattr(comfy.hooks, ATTRIBUTE)[pack] = dict(entries)


def entries_of(pack: str) -> dict[str, Any]:
    """What ``pack`` left; empty if it is not installed."""
    return getattr(comfy.hooks, ATTRIBUTE, {}).get(pack, {})
