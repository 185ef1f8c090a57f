"""Loops that take a while: a progress bar on the node, and an end when the user presses Stop."""

from collections.abc import Collection, Iterator
from typing import TypeVar

import comfy.model_management
import comfy.utils

Item = TypeVar("Item")


def in_steps(items: Collection[Item]) -> Iterator[Item]:
    """``items`` one by one, each a step of the bar. Raises the host's exception for Stop in front of the next."""
    bar = comfy.utils.ProgressBar(len(items))
    for item in items:
        comfy.model_management.throw_exception_if_processing_interrupted()
        yield item
        bar.update(1)
