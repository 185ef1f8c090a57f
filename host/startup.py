"""Starting on a ComfyUI that lacks something: what needs it is left out, and one line in the log says so."""

import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType

from .contract import NEWEST, OLDEST, rows
from .lacking import absent, lacking

# The host's top-level modules.
HOST = {re.match(r"(?:'\w+' in )?(\w+)", row.what)[1] for row in rows()}
MOST = 6  # that a list names
REPORT = "Report this, with the lines below, at https://github.com/animatediff-next/ComfyUI-AnimateDiff-Next/issues"


class Startup:
    """What turns out while the pack is loaded.

    ``lacks``: what the host has not, and all that it is needed for. ``left_out``: what of the pack cannot be used then.
    """

    def __init__(self):
        self.lacks: dict[str, list[str]] = {}
        self.left_out: list[str] = []

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Something of the pack that is left out, under this name, if loading it fails; the rest goes on."""
        try:
            yield
        except Exception as error:
            self.left_out.append(name)
            if (what := lacking_by(error)) is None:
                logging.exception("[AnimateDiff] Left out, because loading it failed: %s. %s.", name, REPORT)
            else:
                self.lacks.setdefault(what, []).append(name)

    def check(self) -> set[str]:
        """Check the host contract: that for which something is lacking, in the contract's words."""
        missing = lacking()
        words = {word for row in missing for word in re.findall(r"\w+", row.what)}
        # what an import said is not said again where a row says it, with what it is needed for
        self.lacks = {what: parts for what, parts in self.lacks.items() if what.rpartition(".")[2] not in words}
        for row in missing:
            self.lacks.setdefault(row.what, []).append(row.needed_for)
        return {row.needed_for for row in missing}

    def tell(self) -> None:
        """One line in the log, if the host lacks something."""
        if self.lacks:
            logging.warning("[AnimateDiff] %s", sentence(host_version(), self.lacks, self.left_out))


def sentence(version: str, lacks: Mapping[str, Sequence[str]], left_out: Sequence[str]) -> str:
    by_purpose: dict[str, list[str]] = {}
    for what, purposes in lacks.items():
        by_purpose.setdefault(listed(purposes), []).append(absent(what))
    missing = listed(f"{listed(whats)} (needed for {purposes})" for purposes, whats in by_purpose.items())
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


def lacking_by(error: Exception) -> str | None:
    """What of the host is not there, as an error of an import says; None if it says something else."""
    name = ""
    if isinstance(error, ImportError) and error.name:
        attribute = re.match(r"cannot import name '(\w+)'", str(error))
        name = f"{error.name}.{attribute[1]}" if attribute else error.name
    elif isinstance(error, AttributeError) and isinstance(error.obj, ModuleType):
        name = f"{error.obj.__name__}.{error.name}"
    elif isinstance(error, AttributeError) and isinstance(error.obj, type):
        name = f"{error.obj.__module__}.{error.obj.__qualname__}.{error.name}"
    return name if name.partition(".")[0] in HOST else None


def host_version() -> str:
    try:
        return import_module("comfyui_version").__version__
    except (ImportError, AttributeError):
        return "unknown release"
