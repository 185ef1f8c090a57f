"""The training loop, the same for everything that is trained."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from ..host import training as host
from .clips import Clips
from .objectives import OBJECTIVES
from .unet import TrainingUNet

OPTIMIZERS = {
    "AdamW": torch.optim.AdamW,
    "Adam": torch.optim.Adam,
    "RMSprop": torch.optim.RMSprop,
    "SGD": torch.optim.SGD,
}
LEARNING_RATE_SCHEDULES = ("constant", "cosine")
PREVIEW_STEPS = 10
AGAINST_NAN = "Lower learning_rate, use precision fp32 or bf16, and check that the VAE does not give black frames."
AGAINST_OUT_OF_MEMORY = "Turn gradient_checkpointing on, or lower batch, frames, or the width and height of the clips."


class TrainingFailed(ValueError):
    """Training that came to nothing; the message says why and what to change."""


@dataclass(frozen=True)
class TrainingSettings:
    """How long and how to train. ``batch`` counts clips, ``preview_every`` steps (0: never).

    Noise levels are drawn between two percents of the sampling schedule, 0 being pure noise and 1 the finished clip.
    ``noise_pairs``: each clip of a step is there twice, with a noise and with its opposite (antithetic variates, meant
    to lower the variance of the gradient), so a batch of 4 holds 2 clips.
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

    def timesteps(self, count: int) -> tuple[int, int]:
        """The first and, exclusive, the last of ``count`` timesteps to draw from; higher ones have more noise."""
        low, high = (round((1 - percent) * count) for percent in (self.end_percent, self.start_percent))
        return min(low, count - 1), max(high, low + 1)


@dataclass
class TrainingRecord:
    """What happened: the loss of each step that the weights hold, and why training ended early, if it did.

    A loss is that of the weights before its step.
    """

    losses: list[float] = field(default_factory=list)
    ended_early: str | None = None

    @property
    def steps(self) -> int:
        return len(self.losses)

    @property
    def loss_map(self) -> dict[str, list[float]]:
        """The host's LOSS_MAP."""
        return {"loss": self.losses}


def train(
    unet: TrainingUNet,
    parameters: list[torch.nn.Parameter],
    clips: Clips,
    settings: TrainingSettings,
    inputs: Callable[[], tuple] = tuple,
    node_id: str | None = None,
) -> TrainingRecord:
    """Fit ``parameters`` to ``clips``; returns the record. ``inputs()`` gives the motion models' inputs of a step.

    The parameters hold the weights of the last step, also when the user stops the training or memory runs out. A loss
    that is NaN or infinite tells that the step before it was a bad one: that step is undone, and is not in the record.
    So the weights from before the last step are kept on the device: once more the memory of ``parameters``.
    Raises TrainingFailed if no step is left, and host.Stopped if the user stops the training before one is done.
    """
    optimizer = _optimizer(settings, parameters)
    schedule = _learning_rate(settings, optimizer)
    scaler = torch.amp.grad_scaler.GradScaler(enabled=settings.precision == "fp16" and unet.device.type == "cuda")
    # On the CPU, so that a seed means the same clips and the same noise on every machine.
    generator = torch.Generator().manual_seed(settings.seed)
    objective = OBJECTIVES[settings.objective]
    progress = host.Progress(settings.steps, node_id)
    preview_every = settings.preview_every
    record = TrainingRecord()

    def preview():
        """The picture, where one is due. One that fails is the last, and does not end the training."""
        nonlocal preview_every
        if not preview_every or record.steps % preview_every:
            return None
        try:
            noise = torch.Generator().manual_seed(settings.seed)
            first = torch.randn(settings.frames, *clips.latents[0].shape[1:], generator=noise)
            return host.frames_preview(unet.base)(unet.draw(first, 0, inputs(), PREVIEW_STEPS))
        except host.Stopped:
            raise
        except Exception:
            preview_every = 0
            logging.warning("[AnimateDiff] A preview failed. Training goes on without previews.", exc_info=True)
            return None

    def one_step() -> bool:
        """False if the loss or its gradient is no number; then the weights were left as they are."""
        host.check_stopped()
        count = settings.batch // 2 if settings.noise_pairs else settings.batch
        batch = clips.draw(count, settings.frames, settings.caption_dropout, generator)
        timesteps = torch.randint(*settings.timesteps(unet.timesteps), (count,), generator=generator)
        noise = torch.randn(batch.latents.shape, generator=generator).to(unet.device)
        if settings.noise_pairs:
            batch, timesteps, noise = batch.twice(), timesteps.repeat(2), torch.cat((noise, -noise))
        sigma = unet.sigma(timesteps)
        noisy = unet.add_noise(batch.latents.to(unet.device), noise, sigma)
        predicted = unet.predict_noise(noisy, sigma, batch.conditionings, inputs())
        loss = objective(predicted, noise, generator)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        norm = torch.nn.utils.clip_grad_norm_(parameters, settings.clip_norm)
        # A scaler looks for its scale by trial, so gradients that overflow are its own business.
        if not torch.isfinite(loss) or not (scaler.is_enabled() or torch.isfinite(norm)):
            return False
        for kept, parameter in zip(before, parameters, strict=True):
            kept.copy_(parameter.detach())
        scaler.step(optimizer)
        scaler.update()
        schedule.step()
        record.losses.append(loss.item())
        progress.step(record.steps, record.losses[-1], preview())
        return True

    advice = ""
    try:
        before = [parameter.detach().clone() for parameter in parameters]
        while record.steps < settings.steps:
            if not one_step():
                for kept, parameter in zip(before, parameters, strict=True):
                    parameter.data.copy_(kept)
                del record.losses[-1:]
                record.ended_early, advice = "the loss became NaN or infinite", AGAINST_NAN
                break
    except host.Stopped:
        if not record.steps:
            raise
        record.ended_early = "it was stopped"
    except host.OutOfMemory:
        record.ended_early, advice = "memory ran out", AGAINST_OUT_OF_MEMORY
    if record.ended_early:
        if not record.steps:
            raise TrainingFailed(f"Training came to nothing: {record.ended_early}. {advice}")
        logging.warning(
            "[AnimateDiff] Training ended after %d of %d steps: %s. The weights of step %d are kept. %s",
            record.steps,
            settings.steps,
            record.ended_early,
            record.steps,
            advice,
        )
    return record


def _optimizer(settings: TrainingSettings, parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    return OPTIMIZERS[settings.optimizer](parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay)


def _learning_rate(settings: TrainingSettings, optimizer: torch.optim.Optimizer):
    if settings.learning_rate_schedule == "cosine":
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps, settings.learning_rate * 0.01)
    return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
