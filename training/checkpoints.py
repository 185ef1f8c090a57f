"""What is saved while training goes on: the weights, a sample, and all that it takes to go on as if nothing had happened.

A checkpoint is ``NAME_00001_step000100.safetensors``, which the loaders read like any other file, a ``.webp`` of the same name with
a sample, and a ``.state``: a file of PyTorch with weights, optimiser, averages and the state of chance, which is written last.
``NAME_00001_log.csv`` has every step.
"""

import glob
import logging
import os
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch

from ..host import folders
from ..host.training import save_clip
from ..host.writing import NotSaved, whole_file
from .distributed import from_first
from .place import here
from .record import TrainingRecord
from .settings import CheckpointSettings, TrainingFailed

STATE, WEIGHTS, SAMPLE = ".state", ".safetensors", ".webp"
STEP = re.compile(r"_(\d+)_step(\d+)\.state$")
VERSION = 2


class Checkpoints:
    """The checkpoints of one training, whose files begin with ``base``, in the models folder ``folder``.

    ``found``: the state to go on from, and its path. Raises what folders.new_file raises.
    """

    def __init__(self, settings: CheckpointSettings, folder: str):
        self.settings = settings
        self.base = folders.new_file(folder, settings.prefix).removesuffix(WEIGHTS)
        self.saved: list[int] = []
        self.found = from_first(self._latest) if settings.go_on else None
        if settings.go_on and self.found is None:
            logging.info("[AnimateDiff] There is no checkpoint yet to go on from: training begins anew.")

    @classmethod
    def of(cls, settings: CheckpointSettings | None, folder: str) -> "Checkpoints | None":
        return None if settings is None else cls(settings, folder)

    def _latest(self) -> tuple[dict, str] | None:
        """The newest state under this name that can be read, and its path; this training writes on behind it.

        One that was cut off, by a power failure or a copy, is told in the log and passed over.
        """
        beginning = re.sub(r"_\d+_$", "", self.base)
        found = {path: STEP.search(path) for path in glob.glob(f"{glob.escape(beginning)}_*_step*{STATE}")}
        numbered = {path: tuple(map(int, match.groups())) for path, match in found.items() if match}
        for path in sorted(numbered, key=lambda path: numbered[path], reverse=True):
            if not path.startswith(f"{beginning}_{STEP.search(path)[1]}_"):  # pyright: ignore[reportOptionalSubscript]
                continue  # of a longer name
            try:
                state = torch.load(path, map_location="cpu", weights_only=True)
            except Exception as error:
                logging.warning(
                    "[AnimateDiff] The checkpoint %s cannot be read (%s): the one before it is tried.", path, error
                )
                continue
            if not isinstance(state, dict) or state.get("version") != VERSION:
                raise TrainingFailed(
                    f"The checkpoint '{path}' is none of this version of the pack. Turn go_on of Training Checkpoints off, or give "
                    "it another filename_prefix."
                )
            self.base = STEP.sub(r"_\1_", path)
            reached = numbered[path][1]
            self.saved = sorted(
                step for other, (_, step) in numbered.items() if other.startswith(self.base) and step <= reached
            )
            for left in glob.glob(f"{glob.escape(self.base)}*.part"):  # of a server that was killed
                with suppress(OSError):
                    os.remove(left)
            return state, path
        return None

    def path(self, step: int, ending: str) -> str:
        return f"{self.base}step{step:06}{ending}"

    @property
    def log_path(self) -> str:
        return f"{self.base}log.csv"

    def due(self, step: int) -> bool:
        return step % self.settings.every == 0

    def save(
        self, record: TrainingRecord, state: dict, weights: Callable[[str, int], None], pictures: list | None
    ) -> None:
        """Save a checkpoint, and remove those that are too old; of several processes the first one does.

        ``weights(path, step)`` writes those that are handed on, ``pictures`` are the frames of a sample. One that cannot
        be written is told in the log, and the ones before it are kept.
        """
        step = record.steps
        if step in self.saved or not here().first:
            return
        self.remove(step)  # what a server that was killed left of it
        try:
            weights(self.path(step, WEIGHTS), step)
            if pictures is not None:
                with whole_file(self.path(step, SAMPLE)) as unfinished:
                    save_clip(pictures, unfinished)
            with whole_file(self.path(step, STATE)) as unfinished:
                torch.save({"version": VERSION, **state}, unfinished)
            record.write_csv(self.log_path)
        except (NotSaved, OSError, RuntimeError, ValueError) as error:
            self.remove(step)
            kept = f"step {self.saved[-1]}" if self.saved else "none"
            logging.warning(
                "[AnimateDiff] No checkpoint of step %d: %s Training goes on; the last checkpoint is %s.",
                step,
                error,
                kept,
            )
            return
        self.saved.append(step)
        for old in self.saved[: -self.settings.keep]:
            self.remove(old)
        logging.info("[AnimateDiff] Saved the checkpoint %s", self.path(step, WEIGHTS))

    def remove(self, step: int) -> None:
        """The state goes first: without it nothing is a checkpoint."""
        if not here().first:
            return
        for ending in (STATE, SAMPLE, WEIGHTS):
            with suppress(OSError):
                os.remove(self.path(step, ending))
        self.saved = [one for one in self.saved if one != step]


# Another one of these would make something else of the saved weights, or nothing of the optimiser's state.
FIXED = ("optimizer", "alpha", "rslora")


def check_fits(path: str, state: dict, parameters: dict[str, torch.nn.Parameter], settings: dict[str, Any]) -> None:
    """Raise TrainingFailed unless training can go on from ``state``; other settings than its own are told in the log."""
    saved, before, beginning = (
        state["parameters"],
        state["settings"],
        f"Training cannot go on from the checkpoint '{path}'",
    )
    advice = "or turn go_on of Training Checkpoints off, or give it another filename_prefix."
    for name in FIXED:
        if before.get(name) != settings.get(name):
            raise TrainingFailed(
                f"{beginning}: its {name} is {before.get(name)}, but {settings.get(name)} is chosen. Choose that of the checkpoint, "
                f"{advice}"
            )
    other = {name for name in saved.keys() | parameters.keys() if _shape(saved, name) != _shape(parameters, name)}
    if other:
        raise TrainingFailed(
            f"{beginning}: {len(other)} of its tensors are not those that are to be trained ({min(other)}, …). Use the model, rank "
            f"and ranks that it was trained with, {advice}"
        )
    changed = [
        f"{name} {before.get(name)} \u2192 {value}" for name, value in settings.items() if before.get(name) != value
    ]
    if changed:
        logging.warning("[AnimateDiff] Training goes on with other settings than before: %s", ", ".join(changed))


def _shape(tensors: dict, name: str) -> tuple | None:
    return tuple(tensors[name].shape) if name in tensors else None
