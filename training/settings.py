"""What a user can set about a training, checked when it is put together: before anything is computed."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from ..host.told import Told
from ..sampling.paths.path import MotionPath
from ..sampling.paths.words import Words
from .optimizers import OPTIMIZERS, check_optimizer
from .place import here, problem_of_batch

COSINE = "cosine"
LEARNING_RATE_SCHEDULES = ("constant", COSINE)
LAST_OF_COSINE = 0.01  # of the learning rate


class TrainingFailed(Told, ValueError):
    """Training that came to nothing; the message says why and what to change."""


@dataclass(frozen=True)
class CheckpointSettings:
    """What is saved while training goes on: every ``every`` steps, the newest ``keep``, in files named after ``prefix``.

    ``go_on``: begin where the newest checkpoint of that name ends, if there is one. ``clip``: a sample with each; ``vae``
    decodes it, and without one it is drawn in the rough colours of its latents.
    """

    prefix: str = "training"
    every: int = 100
    keep: int = 3
    go_on: bool = False
    clip: bool = True
    vae: Any = None


@dataclass(frozen=True)
class ValidationSettings:
    """Clips that training never sees (the host's LATENTs), their captions (CONDITIONINGs), and how often to measure."""

    latents: tuple[dict, ...]
    positive: tuple[list, ...]
    every: int = 100


@dataclass(frozen=True)
class CommandSettings:
    """Not to be trained here, but by a command on ``gpus`` of each of ``machines``; ``prefix`` names the file for it."""

    prefix: str
    gpus: int = 2
    machines: int = 1

    @property
    def processes(self) -> int:
        return self.gpus * self.machines


@dataclass(frozen=True)
class PathSettings:
    """Where things, or the camera, move in the clips: a path for each, or one for all. Noise is drawn along them.

    ``noise``: how much of the low frequencies in boxes moves along, 0..1; ``attention``: what is added to logits; as those of Follow
    Path. ``words``: where the words of a path's objects stand in the caption, for each clip or for all; none: in all of it.
    """

    paths: tuple[MotionPath, ...]
    noise: float = 1.0
    attention: float = 0.0
    words: tuple[Words, ...] = ()


@dataclass(frozen=True)
class TrainingOptions:
    """What most trainings leave alone. The defaults are a training without them.

    ``warmup_steps``: the learning rate rises over so many. ``accumulate``: batches whose gradients make one step.
    ``ema``: decay of the moving average of the weights that is handed on in place of the last ones; 0: none.
    ``min_snr_gamma``: the gamma of min-SNR-gamma (arXiv 2303.09556); 0: every noise level counts alike.
    ``noise_offset``: how much one number for each clip and channel is added to the noise. ``ranks``: part of a layer's
    name to the rank of such layers, 0 to leave them alone. ``rslora``: scale alpha / sqrt(rank) (arXiv 2312.03732).
    """

    warmup_steps: int = 0
    accumulate: int = 1
    ema: float = 0.0
    min_snr_gamma: float = 0.0
    noise_offset: float = 0.0
    rslora: bool = False
    ranks: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    checkpoints: CheckpointSettings | None = None
    validation: ValidationSettings | None = None
    command: CommandSettings | None = None
    paths: PathSettings | None = None


@dataclass(frozen=True)
class TrainingSettings:
    """How long and how to train. ``batch`` counts clips, ``preview_every`` steps (0: never).

    Noise levels are drawn between two percents of the sampling schedule, 0 being pure noise and 1 the finished clip.
    ``noise_pairs``: each clip of a step is there twice, with a noise and with its opposite (antithetic variates, meant
    to lower the variance of the gradient), so a batch of 4 holds 2 clips. ``from_pure_noise``: noisy clips are as sampling meets
    them (``TrainingUNet.prediction``), and the picture's error counts alike at all levels (``objectives.picture_weights``).

    Raises TrainingFailed for settings that fail or learn nothing.
    """

    steps: int
    frames: int = 16
    batch: int = 1
    learning_rate: float = 1e-4
    learning_rate_schedule: str = "constant"
    optimizer: str = "AdamW"
    weight_decay: float = 1e-2
    clip_norm: float = 1.0
    caption_dropout: float = 0.1
    objective: str = "epsilon"
    precision: str = "auto"
    checkpointing: bool = True
    seed: int = 0
    preview_every: int = 0
    start_percent: float = 0.0
    end_percent: float = 1.0
    noise_pairs: bool = False
    from_pure_noise: bool = False
    options: TrainingOptions = field(default_factory=TrainingOptions)

    def __post_init__(self):
        if not 0.0 <= self.start_percent < self.end_percent <= 1.0:
            raise TrainingFailed(
                f"start_percent is {self.start_percent} and end_percent {self.end_percent}: no noise levels lie between them. "
                "Set start_percent below end_percent, both from 0 to 1."
            )
        if self.noise_pairs and self.batch % 2:
            raise TrainingFailed(
                f"noise_pairs shows each clip twice, but batch is {self.batch}. Use an even batch, or turn noise_pairs off."
            )
        command, place = self.options.command, here()
        processes = place.count if place.commanded or command is None else command.processes
        if problem := problem_of_batch(self.batch, processes):
            raise TrainingFailed(problem)
        if self.options.warmup_steps >= self.steps and self.options.warmup_steps:
            raise TrainingFailed(
                f"warmup_steps is {self.options.warmup_steps}, but the training has {self.steps} steps: it would end before its "
                "learning rate is reached. Lower warmup_steps of Training Options, or raise steps."
            )
        if self.options.paths is not None and self.frames < 2:
            raise TrainingFailed(
                "Training Paths draws the noise of clips along their paths, but single frames are trained here. Take it out of options."
            )
        kind = OPTIMIZERS[self.optimizer]
        if kind.averages and self.learning_rate_schedule != "constant":
            raise TrainingFailed(
                f"The optimizer {self.optimizer} replaces a learning rate schedule, but learning_rate_schedule is "
                f"{self.learning_rate_schedule}. Set it to constant, or take another optimizer."
            )
        if kind.averages and self.options.ema:
            raise TrainingFailed(
                f"The optimizer {self.optimizer} averages the weights itself, but ema is {self.options.ema:g}. Set ema of "
                "Training Options to 0, or take another optimizer."
            )
        if problem := check_optimizer(self.optimizer, self.learning_rate):
            raise TrainingFailed(problem)

    def timesteps(self, count: int) -> tuple[int, int]:
        """The first and, exclusive, the last of ``count`` timesteps to draw from; higher ones have more noise."""
        low, high = (round((1 - percent) * count) for percent in (self.end_percent, self.start_percent))
        return min(low, count - 1), max(high, low + 1)

    def learning_rate_at(self, step: int) -> float:
        """The learning rate of step ``step``, counted from 0.

        It rises in a straight line to ``learning_rate``, which the last of ``warmup_steps`` has; then it stays, or falls
        along half a cosine to a hundredth, which the last step has.
        """
        peak = max(self.options.warmup_steps - 1, 0)
        if step < peak:
            return self.learning_rate * (step + 1) / (peak + 1)
        if self.learning_rate_schedule != COSINE or step == peak:
            return self.learning_rate
        fallen = (1 - math.cos(math.pi * (step - peak) / (self.steps - 1 - peak))) / 2
        return self.learning_rate * (1 - LAST_OF_COSINE) * (1 - fallen) + self.learning_rate * LAST_OF_COSINE
