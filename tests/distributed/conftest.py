"""Scenarios on one process and on two: each is run once, all of them in as few processes as possible."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from animatediff_dev_pack import import_file

HERE = Path(__file__).parent
PROCESSES = 2

scenarios = import_file("animatediff_tests_scenarios", HERE / "scenarios.py")
shared = import_file("animatediff_tests_distributed", HERE / "shared.py")


@pytest.fixture(scope="session")
def launch(host) -> Callable[..., subprocess.CompletedProcess]:
    """Run a Python file, in several processes or alone."""

    def run(*words, several: bool, python: Path = host.python, **options) -> subprocess.CompletedProcess:
        command = [python, *(shared.torchrun(PROCESSES) if several else ()), *map(str, words)]
        return subprocess.run(
            command,
            env=shared.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=1500,
            **options,
        )

    return run


class Results:
    """What scenarios gave: ``results.of("name", rank)``."""

    def __init__(self, folder: Path):
        self.folder = folder

    def of(self, name: str, rank: int = 0) -> dict:
        import torch

        return torch.load(self.folder / f"{name}.{rank}", weights_only=True)


@pytest.fixture(scope="session")
def base(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("base")


def run_scenarios(launch, host, base: Path, out: Path, names: list[str], several: bool) -> Results:
    done = launch(HERE / "worker.py", host.path, base, out, *names, several=several, cwd=base)
    assert done.returncode == 0, done.stdout[-5000:]
    return Results(out)


ENDS_ALL = ("memory runs out in a module",)  # processes
# Of what needs several processes there is nothing to see in one.
ONLY_TOGETHER = ("a batch", "NaN", "memory", "stop", "other clips", "files")
ONLY_TOGETHER += ("first half of keeping", "first half of shrinking")
BEHIND_OTHERS = "second half"
ONLY_ALONE = ("first half of growing", "second half of shrinking")


def names(*without: str) -> list[str]:
    return [name for name in scenarios.SCENARIOS if not name.startswith(without)]


@pytest.fixture(scope="session")
def alone(launch, host, base, tmp_path_factory) -> Results:
    chosen = names(BEHIND_OTHERS, *ONLY_TOGETHER)
    return run_scenarios(launch, host, base, tmp_path_factory.mktemp("alone"), chosen, several=False)


@pytest.fixture(scope="session")
def together(launch, host, base, alone, tmp_path_factory) -> Results:
    """Behind ``alone``: some go on from its checkpoints."""
    chosen = names(*ONLY_ALONE, *ENDS_ALL)
    return run_scenarios(launch, host, base, tmp_path_factory.mktemp("together"), chosen, several=True)


@pytest.fixture(scope="session")
def alone_again(launch, host, base, together, tmp_path_factory) -> Results:
    """Behind ``together``: they go on from its checkpoints."""
    chosen = [name for name in names() if name.startswith("second half of shrinking")]
    return run_scenarios(launch, host, base, tmp_path_factory.mktemp("again"), chosen, several=False)
