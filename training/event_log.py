"""TensorBoard's event log, where TensorBoard is installed."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .record import TrainingRecord


class EventLog:
    """Losses, learning rate and gradient norm of each step, in the folder ``BASEtensorboard`` beside the checkpoints.

    ``first``: steps of a training that is gone on with; what was written behind them is hidden. Without TensorBoard nothing
    is written, and an error ends the log, not the training.
    """

    def __init__(self, base: str, first: int):
        self.writer: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except Exception:  # not installed, or broken
            return
        with self._told():
            self.writer = SummaryWriter(f"{base}tensorboard", purge_step=first + 1)

    def step(self, record: TrainingRecord) -> None:
        if self.writer is None:
            return
        step = record.steps
        values = {
            "loss": record.losses[-1],
            "smoothed_loss": record.smoothed[-1],
            "learning_rate": record.rates[-1],
            "gradient_norm": record.norms[-1],
            "validation_loss": record.validation.get(step),
            "motion_error": record.motion.get(step),
        }
        with self._told():
            for name, value in values.items():
                if value is not None:
                    self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        if self.writer is not None:
            with self._told():
                self.writer.close()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except Exception:
            self.writer = None
            logging.warning("[AnimateDiff] TensorBoard's log failed. Training goes on without it.", exc_info=True)
