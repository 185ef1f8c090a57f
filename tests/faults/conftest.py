"""A ComfyUI in this process whose executor runs whole prompts on tiny networks."""

from __future__ import annotations

from pathlib import Path

import pytest
from animatediff_dev_pack import import_file

HERE = Path(__file__).parent
running, stand_ins, parts, graphs, stages, as_before = (
    import_file(f"animatediff_faults_{name}", HERE / f"{name}.py")
    for name in ("running", "stand_ins", "parts", "graphs", "stages", "as_before")
)


class Tally:
    """What was really tried, counted by the tests as they go."""

    def __init__(self):
        self.tried: dict[str, set[str]] = {}

    def count(self, kind: str, name: str) -> None:
        self.tried.setdefault(kind, set()).add(name)


@pytest.fixture(scope="session")
def tally() -> Tally:
    return Tally()


@pytest.fixture(scope="session")
def comfyui(pack):
    """The nodes in the host's table, the files in its folders."""
    import comfy.utils

    comfy.utils.set_progress_bar_enabled(False)
    stand_ins.write_files(pack)
    with running.registered(pack, stand_ins.STAND_INS | stages.FAULT_NODE):
        yield
    comfy.utils.set_progress_bar_enabled(True)


@pytest.fixture(scope="session")
def prompts(comfyui) -> running.Prompts:
    """The host's executor, which remembers what nodes made from prompt to prompt, as with --cache-lru."""
    return running.Prompts(stand_ins.KEPT, remember=2000)
