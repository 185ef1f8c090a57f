"""Node packs measured side by side: each in a fresh server, in turns, medians of at least three.

Two processes of the same code differed by up to 13 % in what they took, so one process of each proves nothing.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
from collections.abc import Callable, Iterable
from copy import copy
from pathlib import Path
from typing import Any

from server import ROOT, Server

LEAST_ROUNDS = 3


def add_arguments(parser: argparse.ArgumentParser, device: bool = True) -> None:
    parser.add_argument(
        "--pack",
        type=Path,
        action="append",
        metavar="FOLDER",
        help="a node pack, for the same prompts; given several times, they take turns, each in fresh servers",
    )
    if device:
        parser.add_argument("--device", default="cpu", choices=["cpu", "gpu"])


def of(options: argparse.Namespace) -> list[Path]:
    """The packs that were asked for; this one if none was."""
    return [pack.resolve() for pack in options.pack or [ROOT]]


def name_of(pack: Path) -> str:
    return "this pack" if pack == ROOT else pack.name


def in_turns(
    host, weights: Path, packs: list[Path], rounds: int, device: str, measure: Callable[[Server], Any]
) -> dict[Path, list]:
    """What ``measure`` gives in ``rounds`` servers of each pack, which has nothing else in it."""
    found: dict[Path, list] = {pack: [] for pack in packs}
    for turn in range(rounds):
        for pack in packs:
            print(f"-- round {turn + 1} of {rounds}, {name_of(pack)}", flush=True)
            with (
                tempfile.TemporaryDirectory() as folder,
                Server(host, folder, models=[weights], packs=[pack], device=device) as server,
            ):
                found[pack].append(measure(server))
    return found


def compare(host, weights: Path, options: argparse.Namespace, settings: Iterable[tuple[str, int]]) -> None:
    """Print the seconds per step of ``settings`` (of long.py, with frames) of each pack, and what the first takes of the others'.

    A setting that a pack has no node for is left out for it.
    """
    from long import context, measure_time

    seeds = itertools.count()
    one_round = copy(options)
    one_round.rounds = 1

    def measure(server: Server) -> dict[tuple[str, int], float]:
        served = server.object_info()
        known = [one for one in settings if (node := context(one[0])) is None or node[0] in served]
        return {one: taken[0] for one, taken in measure_time(server, one_round, known, seeds).items()}

    packs = of(options)
    found = in_turns(host, weights, packs, max(options.rounds, LEAST_ROUNDS), options.device, measure)
    medians = {
        pack: {one: statistics.median(round[one] for round in rounds) for one in rounds[0]}
        for pack, rounds in found.items()
    }
    print(f"\n| s/step | {' | '.join(map(name_of, packs))} | first ÷ others |\n|---|" + "---|" * (len(packs) + 1))
    for one in settings:
        taken = [medians[pack].get(one) for pack in packs]
        cells = ["" if value is None else f"{value:.2f}" for value in taken]
        ratios = [f"{taken[0] / value:.2f}" for value in taken[1:] if value is not None and taken[0] is not None]
        print(f"| {one[0]}, {one[1]} frames | {' | '.join(cells)} | {', '.join(ratios)} |")
