"""Prompts one after the other, in random order, in one process: each gives what it gives in a process of its own."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from animatediff_faults_graphs import GRAPHS
from animatediff_faults_parts import Parts
from animatediff_faults_reliability import STATE

FRESH = Path(__file__).parent / "fresh.py"
SEEDS = (1, 2, 3)


@pytest.fixture(scope="module")
def fresh(host, tmp_path_factory) -> dict[str, torch.Tensor]:
    """The latents of each graph, made by a process that has run nothing before."""
    base, folder = tmp_path_factory.mktemp("fresh-base"), tmp_path_factory.mktemp("fresh")
    # without fork (Windows) a process of its own from the start
    groups = [list(GRAPHS)] if hasattr(os, "fork") else [[name] for name in GRAPHS]
    for names in groups:
        command = [sys.executable, FRESH, host.path, base, folder, *names]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
    return {name: torch.load(folder / f"{name}.pt") for name in GRAPHS}


def test_the_graphs_are_all_different(fresh):
    """Else a setting that does nothing would pass."""
    assert len(fresh) >= 20
    assert all(latents.isfinite().all() for latents in fresh.values())
    same = [
        (one, other)
        for (one, a), (other, b) in itertools.combinations(fresh.items(), 2)
        if a.shape == b.shape and torch.equal(a, b)
    ]
    assert not same


@pytest.mark.parametrize("seed", SEEDS)
def test_prompts_in_random_order_do_not_see_each_other(prompts, fresh, tally, seed):
    """All of them use the same models, conditionings and options, which the host keeps from prompt to prompt."""
    order = list(GRAPHS)
    random.Random(seed).shuffle(order)
    differ = {}
    for name in order:
        graph = Parts(salt=seed)
        GRAPHS[name](graph)
        outcome = prompts.run(graph)
        same = not outcome.refused and torch.equal(outcome.value["samples"], fresh[name])
        tally.note(STATE, f"{name}, order {seed}", not same)
        if not same:
            differ[name] = outcome.message or "other latents than in a fresh process"
    assert not differ, f"in the order {order}"
