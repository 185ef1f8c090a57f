"""The host's ControlNet objects, where releases differ."""

from collections.abc import Mapping


def clones_of(control) -> Mapping:
    """The objects that stand in for ``control`` on other GPUs, by device. Releases before 0.24 have none."""
    return getattr(control, "multigpu_clones", {})


def set_clones(control, clones: Mapping) -> None:
    control.multigpu_clones = dict(clones)
