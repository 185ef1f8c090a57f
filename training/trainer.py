"""The training loop, the same for everything that is trained."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import fields
from typing import Any

import torch

from ..host import training as host
from .average import HandedOn, MovingAverage, evaluated
from .checkpoints import Checkpoints, check_fits
from .clips import TrainingData
from .event_log import EventLog
from .objectives import OBJECTIVES, min_snr_weights
from .optimizers import OPTIMIZERS
from .record import TrainingRecord
from .settings import TrainingFailed, TrainingSettings
from .unet import TrainingUNet
from .validation import validation_loss

PREVIEW_STEPS = 10
AGAINST_NAN = "Lower learning_rate, use precision fp32 or bf16, and check that the VAE does not give black frames."
AGAINST_OUT_OF_MEMORY = "Turn gradient_checkpointing on, or lower batch, frames, or the width and height of the clips."
# Settings that change nothing about what is learned, or that do not go into a file.
NOT_NOTED = ("preview_every", "checkpointing", "options", "checkpoints", "validation")


@contextmanager
def train(
    unet: TrainingUNet,
    parameters: dict[str, torch.nn.Parameter],
    data: TrainingData,
    settings: TrainingSettings,
    save: Callable[[str, int], None],
    inputs: tuple = (),
    checkpoints: Checkpoints | None = None,
    node_id: str | None = None,
    alpha: float | None = None,
) -> Iterator[TrainingRecord]:
    """Fit ``parameters``, by their names, to the clips of ``data``. In the ``with`` they are the weights to hand on.

    ``inputs`` are those of the motion models, ``save(path, steps)`` writes the weights of a checkpoint to a file.
    ``alpha`` is that of LoRAs: checkpoints go on with the one that they were begun with.

    The parameters hold the weights of the last step, or their average, also when the user stops the training or memory runs
    out. A loss that is NaN or infinite tells that the step before it was a bad one: that step is undone, and is not in the
    record. So the weights from before the last step are kept on the device: once more the memory of ``parameters``.
    Raises TrainingFailed if no step is left, and host.Stopped if the user stops the training before one is done.
    """
    training = _Training(unet, parameters, data, settings, save, inputs, checkpoints, node_id, alpha)
    record = training.run()
    with training.handed_on():
        yield record


class _Training:
    """One training: what changes from step to step, and the steps."""

    def __init__(self, unet, parameters, data, settings, save, inputs, checkpoints, node_id, alpha):
        self.unet, self.named, self.data, self.settings = unet, parameters, data, settings
        self.save_weights, self.inputs, self.checkpoints, self.alpha = save, inputs, checkpoints, alpha
        self.options = settings.options
        self.parameters: list[torch.nn.Parameter] = list(parameters.values())
        kind = OPTIMIZERS[settings.optimizer]
        self.optimizer: Any = kind.make(self.parameters, settings.learning_rate, settings.weight_decay)
        self.scaler = torch.amp.grad_scaler.GradScaler(
            enabled=settings.precision == "fp16" and unet.device.type == "cuda"
        )
        self.average = MovingAverage(self.parameters, self.options.ema) if self.options.ema else None
        self.handed_on: HandedOn = nullcontext
        if kind.averages:
            self.optimizer.train()
            self.handed_on = lambda: evaluated(self.optimizer, self.parameters)
        elif self.average is not None:
            self.handed_on = self.average.handed_on
        # On the CPU, so that a seed means the same clips and the same noise on every machine.
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.record = TrainingRecord()
        self.preview_every = settings.preview_every
        self.sampled = checkpoints is not None and checkpoints.settings.clip
        if checkpoints is not None and checkpoints.found is not None:
            self.resume(*checkpoints.found)
        self.first = self.record.steps
        self.chance = self.generator.get_state()  # behind the last whole step: one that is broken off has drawn from it
        self.log = EventLog(checkpoints.base, self.first) if checkpoints is not None else None
        self.progress = host.Progress(settings.steps, node_id, self.first)

    # -- the loop

    def run(self) -> TrainingRecord:
        """All steps; the record. Raises as ``train`` does."""
        record, settings, advice = self.record, self.settings, ""
        try:
            self.before = [parameter.detach().clone() for parameter in self.parameters]
            while record.steps < settings.steps:
                if not self.step():
                    self.undo()
                    record.ended_early, advice = "the loss became NaN or infinite", AGAINST_NAN
                    break
                self.behind_a_step()
        except host.Stopped:
            if record.steps <= self.first:
                raise
            record.ended_early = "it was stopped"
        except host.OutOfMemory:
            record.ended_early, advice = "memory ran out", AGAINST_OUT_OF_MEMORY
        finally:
            if self.log is not None:
                self.log.close()
        if record.ended_early:
            if record.steps <= self.first:
                raise TrainingFailed(f"Training came to nothing: {record.ended_early}. {advice}{self.beginning()}")
            logging.warning(
                "[AnimateDiff] Training ended after %d of %d steps: %s. The weights of step %d are kept. %s",
                record.steps,
                settings.steps,
                record.ended_early,
                record.steps,
                advice,
            )
            if self.checkpoints is not None and advice != AGAINST_NAN:
                self.save(sample=False)
        return record

    def step(self) -> bool:
        """False if the loss or its gradient is no number; then the weights were left as they are."""
        host.check_stopped()
        rate = self.settings.learning_rate_at(self.record.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        losses = []
        for _ in range(self.options.accumulate):
            loss = self.loss()
            self.scaler.scale(loss / self.options.accumulate).backward()
            losses.append(loss.detach())
        loss = torch.stack(losses).mean()
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.settings.clip_norm)
        # A scaler looks for its scale by trial, so gradients that overflow are its own business.
        if not torch.isfinite(loss) or not (self.scaler.is_enabled() or torch.isfinite(norm)):
            return False
        if self.average is not None:
            self.average.confirm()
        for kept, parameter in zip(self.before, self.parameters, strict=True):
            kept.copy_(parameter.detach())
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.stepped()
        self.record.add(loss.item(), rate, norm.item())
        self.chance = self.generator.get_state()
        return True

    def loss(self) -> torch.Tensor:
        """Of one batch, drawn anew."""
        settings, options, generator = self.settings, self.options, self.generator
        count = settings.batch // 2 if settings.noise_pairs else settings.batch
        batch = self.data.clips.draw(count, settings.frames, settings.caption_dropout, generator)
        low, high = settings.timesteps(self.unet.timesteps)
        timesteps = torch.randint(low, high, (count,), generator=generator)
        noise = torch.randn(batch.latents.shape, generator=generator)
        if options.noise_offset:
            # the same for all frames: else it would be taught to flicker
            noise += options.noise_offset * torch.randn(count, 1, noise.shape[2], 1, 1, generator=generator)
        noise = noise.to(self.unet.device)
        if settings.noise_pairs:
            batch, timesteps, noise = batch.twice(), timesteps.repeat(2), torch.cat((noise, -noise))
        sigma = self.unet.sigma(timesteps)
        predicted, target = self.unet.prediction(
            batch.latents.to(self.unet.device), noise, sigma, batch.conditionings, self.inputs
        )
        if options.min_snr_gamma:
            # every objective is a square of both: a weight of the loss is its root in each
            root = min_snr_weights(sigma, options.min_snr_gamma, self.unet.predicts_v).sqrt().view(-1, 1, 1, 1, 1)
            predicted, target = predicted * root, target * root
        return OBJECTIVES[settings.objective](predicted, target, generator)

    def undo(self) -> None:
        """Take the last step back, where there was one."""
        if self.record.steps <= self.first:
            return
        for kept, parameter in zip(self.before, self.parameters, strict=True):
            parameter.data.copy_(kept)
        if self.average is not None:
            self.average.undo()
        if self.checkpoints is not None:
            self.checkpoints.remove(self.record.steps)
        self.record.undo()

    def beginning(self) -> str:
        """Of a training that ends in its first step: what may be wrong with where it went on from."""
        if self.checkpoints is None or self.checkpoints.found is None:
            return ""
        return f" If that is of no use, remove '{self.checkpoints.found[1]}': go_on then begins with the checkpoint before it."

    # -- what is seen of it

    def behind_a_step(self) -> None:
        done, validation = self.record.steps, self.options.validation
        if validation is not None and self.data.held_out is not None and done % validation.every == 0:
            with self.handed_on():
                found = validation_loss(self.unet, self.data.held_out, self.settings, self.inputs)
            self.record.validation[done] = found
        self.progress.step(done, self.record.told(), self.preview())
        if self.log is not None:
            self.log.step(self.record)
        if self.checkpoints is not None and (self.checkpoints.due(done) or done == self.settings.steps):
            self.save(self.sampled)

    def sample(self) -> torch.Tensor:
        """The latents of a clip of the weights to hand on, always from the same noise."""
        noise = torch.Generator().manual_seed(self.settings.seed)
        first = torch.randn(self.settings.frames, *self.data.clips.latents[0].shape[1:], generator=noise)
        with self.handed_on():
            return self.unet.draw(first, 0, self.inputs, PREVIEW_STEPS)

    def preview(self):
        """The picture, where one is due. One that fails is the last, and does not end the training."""
        if not self.preview_every or self.record.steps % self.preview_every:
            return None
        try:
            return host.frames_preview(self.unet.base)(self.sample())
        except host.Stopped:
            raise
        except Exception:
            self.preview_every = 0
            logging.warning("[AnimateDiff] A preview failed. Training goes on without previews.", exc_info=True)
            return None

    # -- checkpoints

    def save(self, sample: bool) -> None:
        assert self.checkpoints is not None
        pictures = None
        if sample:
            try:
                pictures = host.clip_pictures(self.unet.base, self.sample(), self.checkpoints.settings.vae)
            except host.Stopped:
                raise
            except Exception:
                self.sampled = False
                logging.warning("[AnimateDiff] A sample failed. Checkpoints go on without them.", exc_info=True)
        # the state tells of the weights as they are trained, the file of weights of those to hand on
        state = self.state()
        with self.handed_on():
            self.checkpoints.save(self.record, state, self.save_weights, pictures)

    def state(self) -> dict:
        """All that changes from step to step, of PyTorch's and Python's own types only.

        The weights are copied where those to hand on take their place while it is saved.
        """
        copy = self.handed_on is not nullcontext
        return {
            "parameters": {name: parameter.detach().to("cpu", copy=copy) for name, parameter in self.named.items()},
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": self.average and self.average.state(),
            "chance": self.chance,
            "record": {f.name: getattr(self.record, f.name) for f in fields(self.record) if f.name != "ended_early"},
            "settings": self.noted_settings(),
        }

    def noted_settings(self) -> dict[str, Any]:
        both = {f.name: getattr(of, f.name) for of in (self.settings, self.options) for f in fields(of)}
        noted = {name: value for name, value in both.items() if name not in NOT_NOTED}
        return {**noted, "ranks": dict(self.options.ranks), "clips": self.data.digest, "alpha": self.alpha}

    def resume(self, state: dict, path: str) -> None:
        """Go on as if the training that saved the state had never ended."""
        check_fits(path, state, self.named, self.noted_settings())
        with torch.no_grad():
            for name, parameter in self.named.items():
                parameter.copy_(state["parameters"][name])
        decay = [group["weight_decay"] for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(state["optimizer"])
        for group, chosen in zip(self.optimizer.param_groups, decay, strict=True):
            group["weight_decay"] = chosen
        if state["scaler"]:  # empty where it had nothing to scale
            self.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            # one that was not there before begins with these weights
            self.average = MovingAverage(self.parameters, self.options.ema)
            if state["average"] is not None:
                self.average.resume(state["average"])
            self.handed_on = self.average.handed_on
        self.generator.set_state(state["chance"])
        self.record = TrainingRecord(**state["record"])
        logging.info("[AnimateDiff] Training goes on from step %d of %s", self.record.steps, path)
