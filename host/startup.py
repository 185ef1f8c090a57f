"""Starting on a ComfyUI that lacks something: what needs it is left out, and one line in the log says so."""

import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from importlib import import_module

from .contract import NEWEST, OLDEST, Row
from .lacking import absent, lacking

MOST = 6  # that a list names
REPORT = "Report this, with the lines below, to whoever gave you the pack"


class Startup:
    """What turns out while the pack is loaded. ``left_out``: what of it cannot be used."""

    def __init__(self):
        self.left_out: list[str] = []

    @cached_property
    def lacks(self) -> list[Row]:
        """What the host lacks of the contract."""
        return lacking()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Something of the pack that is left out, under this name, if loading it fails; the rest goes on."""
        try:
            yield
        except Exception:
            self.left_out.append(name)
            if self.lacks:
                logging.debug("[AnimateDiff] Left out: %s", name, exc_info=True)  # ``tell`` says what and why
            else:
                logging.exception("[AnimateDiff] Left out, because loading it failed: %s. %s.", name, REPORT)

    def tell(self) -> None:
        """One line in the log, if the host lacks something."""
        if self.lacks:
            logging.warning("[AnimateDiff] %s", sentence(host_version(), self.lacks, self.left_out))


def sentence(version: str, lacks: Iterable[Row], left_out: Sequence[str]) -> str:
    purposes: dict[str, list[str]] = {}  # what is lacking -> all that it is needed for
    for row in lacks:
        purposes.setdefault(absent(row.what), []).append(row.needed_for)
    by_purposes: dict[str, list[str]] = {}
    for what, needed_for in purposes.items():
        by_purposes.setdefault(listed(needed_for), []).append(what)
    missing = listed(f"{listed(whats)} (needed for {needed_for})" for needed_for, whats in by_purposes.items())
    result = f"Left out: {listed(left_out)}." if left_out else "All nodes are there, but this will not work."
    return f"This ComfyUI ({version}) lacks {missing}. {result} {advice(version)}"


def advice(version: str) -> str:
    this, oldest, newest = (tuple(map(int, re.findall(r"\d+", text))) for text in (version, OLDEST, NEWEST))
    if this and this < oldest:
        return f"Update ComfyUI: {OLDEST} is the oldest release that works."
    if this and this <= newest:
        return f"Update ComfyUI and ComfyUI-AnimateDiff-Next: with ComfyUI {NEWEST} all of it is known to work."
    return f"Update ComfyUI-AnimateDiff-Next, or use ComfyUI {NEWEST}."


def listed(names: Iterable[str]) -> str:
    names = list(dict.fromkeys(names))
    rest = f" and {len(names) - MOST} more" if len(names) > MOST else ""
    return ", ".join(names[:MOST]) + rest


def host_version() -> str:
    try:
        return import_module("comfyui_version").__version__
    except (ImportError, AttributeError):
        return "unknown release"
