"""What happened in a training: losses and what goes with them, and the files that tell of them."""

import csv
import math
from dataclasses import dataclass, field

from ..host.writing import whole_file

SMOOTHING = 0.98  # the share of what came before, in the smoothed loss
COLUMNS = ("step", "loss", "smoothed_loss", "validation_loss", "motion_error", "learning_rate", "gradient_norm")


@dataclass
class TrainingRecord:
    """The loss of each step that the weights hold, and why training ended early, if it did.

    A loss is that of the weights before its step. ``rates`` and ``norms``: the learning rate of each step, and the length of
    its gradient before it was clipped; ``smoothed`` the losses' exponential moving average, without the pull to zero at its
    start (arXiv 1412.6980, section 3). ``validation``: step to the validation loss behind it. ``motion``: the same of the motion error
    in degrees (``motion.MotionCheck``).
    """

    losses: list[float] = field(default_factory=list)
    ended_early: str | None = None
    smoothed: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    validation: dict[int, float] = field(default_factory=dict)
    motion: dict[int, float] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        return len(self.losses)

    @property
    def loss_map(self) -> dict[str, list[float]]:
        """The host's LOSS_MAP. Its Plot Loss Graph divides by the difference between the largest and the smallest loss.

        Where there is none, as after a single step, the last loss stands there once more, larger by the least that a number
        can be: the graph shows them as one.
        """
        losses = list(self.losses)
        if losses and min(losses) == max(losses):
            losses.append(math.nextafter(losses[-1], math.inf))
        return {"loss": losses}

    def add(self, loss: float, rate: float, norm: float) -> None:
        before = self.smoothed[-1] * (1 - SMOOTHING**self.steps) if self.smoothed else 0.0
        self.losses.append(loss)
        self.smoothed.append((SMOOTHING * before + (1 - SMOOTHING) * loss) / (1 - SMOOTHING**self.steps))
        self.rates.append(rate)
        self.norms.append(norm)

    def undo(self) -> None:
        """Take the last step back."""
        for measured in (self.validation, self.motion):
            measured.pop(self.steps, None)
        for values in (self.losses, self.smoothed, self.rates, self.norms):
            del values[-1:]

    def told(self) -> str:
        """The losses of the last step in words."""
        text = f"loss {self.losses[-1]:.4f}, smoothed {self.smoothed[-1]:.4f}"
        if self.validation:
            text += f", validation {self.validation[max(self.validation)]:.4f}"
        if self.motion:
            text += f", motion error {self.motion[max(self.motion)]:.0f}°"
        return text

    def write_csv(self, path: str) -> None:
        """All steps, one a line, in a file that is whole or not there. Raises NotSaved."""
        with whole_file(path) as unfinished, open(unfinished, "w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow(COLUMNS)
            rows = zip(self.losses, self.smoothed, self.rates, self.norms, strict=True)
            for step, (loss, smoothed, rate, norm) in enumerate(rows, 1):
                measured = (of.get(step, "") for of in (self.validation, self.motion))
                table.writerow((step, loss, smoothed, *measured, rate, norm))
