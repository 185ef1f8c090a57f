"""The training loop, the same for everything that is trained."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import torch

from ..host import training as host
from ..sampling.paths.drawn import noise_along
from . import distributed
from .average import HandedOn, MovingAverage, evaluated
from .checkpoints import Checkpoints, check_fits
from .clips import Epoch, Pick, TrainingData
from .event_log import EventLog
from .motion import MotionCheck
from .objectives import level_weights, weighted
from .optimizers import OPTIMIZERS
from .picture import pictures
from .place import here
from .record import TrainingRecord
from .settings import TrainingFailed, TrainingSettings
from .spread import copied, full, local, part_of, put_together, spread_state, whole, whole_state
from .unet import TrainingUNet
from .validation import validation_loss

if TYPE_CHECKING:
    from torch.distributed.fsdp import FSDPModule

PREVIEW_STEPS = 10
AGAINST_NAN = "Lower learning_rate, use precision fp32 or bf16, and check that the VAE does not give black frames."
AGAINST_OUT_OF_MEMORY = "Turn gradient_checkpointing on, or lower batch, frames, or the width and height of the clips."
# Settings that change nothing about what is learned, or that do not go into a file.
NOT_NOTED = ("preview_every", "checkpointing", "options", "checkpoints", "validation", "command", "paths")


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
    measure_motion: bool = False,
    units: "list[FSDPModule] | None" = None,
) -> Iterator[TrainingRecord]:
    """Fit ``parameters``, by their names, to the clips of ``data``. In the ``with`` they are the weights to hand on.

    ``inputs`` are those of the motion models, ``save(path, steps)`` writes the weights of a checkpoint to a file.
    ``alpha`` is that of LoRAs: checkpoints go on with the one that they were begun with. ``measure_motion``: measure the motion error
    now and then (``motion.MotionCheck``), of what learns one kind of motion. ``units`` are the modules whose weights are
    spread over several processes.

    The parameters hold the weights of the last step, or their average, also when the user stops the training or memory runs
    out. A loss that is NaN or infinite tells that the step before it was a bad one: that step is undone, and is not in the
    record. So the weights from before the last step are kept on the device: once more the memory of ``parameters``.
    Raises TrainingFailed if no step is left, and host.Stopped if the user stops the training before one is done.
    """
    training = _Training(
        unet, parameters, data, settings, save, inputs, checkpoints, node_id, alpha, measure_motion, units or []
    )
    record = training.run()
    with training.shown():
        yield record


class _Training:
    """One training: what changes from step to step, and the steps."""

    def __init__(
        self, unet, parameters, data, settings, save, inputs, checkpoints, node_id, alpha, measure_motion, units
    ):
        self.unet, self.named, self.data, self.settings = unet, parameters, data, settings
        self.save_weights, self.inputs, self.checkpoints, self.alpha = save, inputs, checkpoints, alpha
        self.options, self.units = settings.options, units
        self.parameters: list[torch.nn.Parameter] = list(parameters.values())
        self.local = [local(parameter) for parameter in self.parameters]  # what of them this process holds
        kind = OPTIMIZERS[settings.optimizer]
        self.optimizer: Any = kind.make(self.parameters, settings.learning_rate, settings.weight_decay)
        self.scaler = torch.amp.grad_scaler.GradScaler(
            enabled=settings.precision == "fp16" and unet.device.type == "cuda"
        )
        self.average = MovingAverage(self.local, self.options.ema) if self.options.ema else None
        self.handed_on: HandedOn = nullcontext
        if kind.averages:
            self.optimizer.train()
            self.handed_on = lambda: evaluated(self.optimizer, self.parameters)
        elif self.average is not None:
            self.handed_on = self.average.handed_on
        # On the CPU, so that a seed means the same clips and the same noise on every machine.
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.epoch = Epoch()
        self.record = TrainingRecord()
        self.trouble: BaseException | None = None
        self.preview_every, self.preview_failed = settings.preview_every, False
        self.clip: list = []  # the pictures of the latest preview
        self.sampled = checkpoints is not None and checkpoints.settings.clip
        if checkpoints is not None and checkpoints.found is not None:
            self.resume(*checkpoints.found)
        self.first = self.record.steps
        self.reached = self.chance()  # behind the last whole step: one that is broken off has drawn from it
        self.log = EventLog(checkpoints.base, self.first) if checkpoints is not None and here().first else None
        self.motion = MotionCheck(unet, data.clips, settings) if measure_motion and here().first else None
        self.progress = host.Progress(settings.steps, node_id, self.first)

    # -- the loop

    def run(self) -> TrainingRecord:
        """All steps; the record. Raises as ``train`` does."""
        record, settings, advice = self.record, self.settings, ""
        try:
            self.before = [parameter.detach().clone() for parameter in self.local]
            while record.steps < settings.steps:
                if not self.step():
                    self.undo()
                    record.ended_early, advice = "the loss became NaN or infinite", AGAINST_NAN
                    break
                self.behind_it()
        except host.Stopped:
            if record.steps <= self.first:
                raise
            record.ended_early = "it was stopped"
        except host.OutOfMemory:
            record.ended_early, advice = "memory ran out", AGAINST_OUT_OF_MEMORY
        finally:
            self.progress.close()
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
            if self.checkpoints is not None and advice != AGAINST_NAN and (here().first or self.units):
                state = self.state()
                with self.shown():
                    self.save(state, sample=False)
        return record

    def step(self) -> bool:
        """False if the loss or its gradient is no number; then the weights were left as they are."""
        rate = self.settings.learning_rate_at(self.record.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        loss = distributed.averaged(self.check, self.gradients, self.parameters, spread=bool(self.units))
        self.scaler.unscale_(self.optimizer)
        norm = full(torch.nn.utils.clip_grad_norm_(self.parameters, self.settings.clip_norm))
        # A scaler looks for its scale by trial, so gradients that overflow are its own business.
        if not torch.isfinite(loss) or not (self.scaler.is_enabled() or torch.isfinite(norm)):
            return False
        if self.average is not None:
            self.average.confirm()
        for kept, parameter in zip(self.before, self.local, strict=True):
            kept.copy_(parameter.detach())
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.stepped()
        self.record.add(loss.item(), rate, norm.item())
        self.reached = self.chance()
        return True

    def check(self) -> None:
        """Raise what ends the training."""
        if self.trouble is not None:
            raise self.trouble
        host.check_stopped()

    def gradients(self) -> torch.Tensor:
        """Those of the share of this process; the loss."""
        losses = []
        for _ in range(self.options.accumulate):
            loss = self.loss()
            self.scaler.scale(loss / self.options.accumulate).backward()
            losses.append(loss.detach())
        return torch.stack(losses).mean()

    def chance(self) -> tuple[torch.Tensor, Epoch]:
        """What decides which clips, which of their frames and what noise come next."""
        return self.generator.get_state(), self.epoch

    def loss(self) -> torch.Tensor:
        """Of one batch, drawn anew: of the share of this process."""
        settings, options, generator = self.settings, self.options, self.generator
        count = settings.batch // 2 if settings.noise_pairs else settings.batch
        clips, frames = self.data.clips, settings.frames
        picks, self.epoch = clips.draw(self.epoch, count, frames, settings.caption_dropout, generator)
        low, high = settings.timesteps(self.unet.timesteps)
        timesteps = torch.randint(low, high, (count,), generator=generator)
        noise = self.along_paths(torch.randn(count, frames, *clips.size(picks), generator=generator), picks)
        if options.noise_offset:
            # the same for all frames: else it would be taught to flicker
            noise += options.noise_offset * torch.randn(count, 1, noise.shape[2], 1, 1, generator=generator)
        if settings.noise_pairs:
            picks, timesteps, noise = picks * 2, timesteps.repeat(2), torch.cat((noise, -noise))
        noise = distributed.share(noise).to(self.unet.device)
        sigma = self.unet.sigma(distributed.share(timesteps))
        predicted, target = self.predictions(distributed.share(picks), noise, sigma)
        weights = level_weights(sigma, settings.from_pure_noise, self.unet.predicts_v, options.min_snr_gamma)
        return weighted(settings.objective, predicted, target, weights, generator)

    def predictions(
        self, picks: list[Pick], noise: torch.Tensor, sigma: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """``TrainingUNet.prediction`` of a batch: clip by clip where the attention of each keeps to boxes of its own."""
        batch = self.data.clips.batch(picks, self.settings.frames)
        noisy = batch.latents.to(self.unet.device), noise, sigma
        pure, paths = self.settings.from_pure_noise, self.options.paths
        if paths is None or not paths.attention:
            return self.unet.prediction(*noisy, batch.conditionings, self.inputs, pure)
        found = []
        for i, pick in enumerate(picks):
            of_clip = (one[i : i + 1] for one in noisy)
            boxes = self.data.boxes(pick, self.settings.frames, paths.attention)
            found.append(self.unet.prediction(*of_clip, [pick.conditioning], self.inputs, pure, boxes))
        predicted, target = (torch.cat(of_clips) for of_clips in zip(*found, strict=True))
        return predicted, target

    def along_paths(self, noise: torch.Tensor, picks: list[Pick]) -> torch.Tensor:
        """``noise (clips, frames, c, h, w)`` as sampling draws it along the paths of the clips, where there are any."""
        if self.options.paths is None:
            return noise
        seeds = torch.randint(1 << 31, (len(picks),), generator=self.generator).tolist()
        paths, strength = self.data.paths, self.options.paths.noise
        drawn = zip(noise, picks, seeds, strict=True)
        return torch.stack(
            [noise_along(one, paths[pick.index], seed, strength, pick.start) for one, pick, seed in drawn]
        )

    def undo(self) -> None:
        """Take the last step back, where there was one."""
        if self.record.steps <= self.first:
            return
        for kept, parameter in zip(self.before, self.local, strict=True):
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

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Inside, the parameters are the weights to hand on, and whole: all processes that have parts of them enter it."""
        with self.handed_on(), put_together(self.units):
            yield

    def behind_it(self) -> None:
        """``behind_a_step``. What ends the training in the first process ends it in all, in their next step."""
        try:
            if here().first or self.units:
                self.behind_a_step()
        except distributed.TROUBLES as error:
            if here().count == 1 or self.record.steps == self.settings.steps:
                raise
            self.trouble = error

    def behind_a_step(self) -> None:
        done, record, of_validation = self.record.steps, self.record, self.options.validation
        validation = of_validation is not None and self.data.held_out is not None and done % of_validation.every == 0
        motion = self.motion is not None and self.motion.due(done)
        preview = self.preview_every and done % self.preview_every == 0
        checkpoint = self.checkpoints is not None and (self.checkpoints.due(done) or done == self.settings.steps)
        # the state tells of the weights as they are trained, the file of weights of those to hand on
        state = self.state() if checkpoint else None
        with self.shown() if validation or motion or preview or checkpoint else nullcontext():
            if not here().first:
                return
            if validation:
                held_out: Any = self.data.held_out
                record.validation[done] = validation_loss(self.unet, held_out, self.settings, self.inputs)
            if motion:
                record.motion[done] = self.motion.error(self.inputs)  # pyright: ignore[reportOptionalMemberAccess]
            if preview:
                self.preview()
            self.progress.step(done, record.told(), lambda: pictures(record, self.settings.steps, self.clip))
            if self.log is not None:
                self.log.step(record)
            if state is not None:
                self.save(state, self.sampled)

    def sample(self) -> torch.Tensor:
        """The latents of a clip of the weights at hand, always from the same noise: along the path of the first clip, if it has one."""
        seed = self.settings.seed
        noise = torch.Generator().manual_seed(seed)
        first = torch.randn(self.settings.frames, *self.data.clips.latents[0].shape[1:], generator=noise)
        boxes = None
        if (paths := self.options.paths) is not None:
            first = noise_along(first, self.data.paths[0], seed, paths.noise)
            if paths.attention:
                boxes = self.data.boxes(Pick(0, 0, 0), self.settings.frames, paths.attention)
        return self.unet.draw(first, 0, self.inputs, PREVIEW_STEPS, boxes)

    def preview(self) -> None:
        """Draw a clip. One that fails is the last, and does not end the training."""
        if self.preview_failed:
            return
        try:
            self.clip = host.clip_pictures(self.unet.base, self.sample())
        except host.Stopped:
            raise
        except Exception:
            self.preview_failed = True
            logging.warning("[AnimateDiff] A preview failed. Training goes on without previews.", exc_info=True)

    # -- checkpoints

    def save(self, state: dict, sample: bool) -> None:
        """Save a checkpoint of the weights at hand."""
        assert self.checkpoints is not None
        clip = None
        if sample:
            try:
                clip = host.clip_pictures(self.unet.base, self.sample(), self.checkpoints.settings.vae)
            except host.Stopped:
                raise
            except Exception:
                self.sampled = False
                logging.warning("[AnimateDiff] A sample failed. Checkpoints go on without them.", exc_info=True)
        self.checkpoints.save(self.record, state, self.save_weights, clip)

    def state(self) -> dict:
        """All that changes from step to step, copied: of PyTorch's and Python's own types only."""
        return {
            "parameters": {name: copied(parameter) for name, parameter in self.named.items()},
            "optimizer": whole_state(self.optimizer),
            "scaler": self.scaler.state_dict(),
            "average": self.average and self.whole_average(self.average.state()),
            "chance": self.reached[0],
            "epoch": self.reached[1].state(),
            "record": {f.name: getattr(self.record, f.name) for f in fields(self.record) if f.name != "ended_early"},
            "settings": self.noted_settings(),
        }

    def whole_average(self, state: dict) -> dict:
        average = [whole(mine, like) for mine, like in zip(state["average"], self.parameters, strict=True)]
        return {**state, "average": average}

    def noted_settings(self) -> dict[str, Any]:
        both = {f.name: getattr(of, f.name) for of in (self.settings, self.options) for f in fields(of)}
        noted = {name: value for name, value in both.items() if name not in NOT_NOTED}
        of_data = {"clips": self.data.digest, "paths": self.data.noted_paths(self.options.paths)}
        return {**noted, "ranks": dict(self.options.ranks), **of_data, "alpha": self.alpha}

    def resume(self, state: dict, path: str) -> None:
        """Go on as if the training that saved the state had never ended."""
        check_fits(path, state, self.named, self.noted_settings())
        with torch.no_grad():
            for name, parameter in self.named.items():
                parameter.copy_(part_of(state["parameters"][name], parameter))
        decay = [group["weight_decay"] for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(spread_state(state["optimizer"], self.parameters))
        for group, chosen in zip(self.optimizer.param_groups, decay, strict=True):
            group["weight_decay"] = chosen
        if state["scaler"]:  # empty where it had nothing to scale
            self.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            # one that was not there before begins with these weights
            self.average = MovingAverage(self.local, self.options.ema)
            if (average := state["average"]) is not None:
                pairs = zip(average["average"], self.parameters, strict=True)
                self.average.resume({**average, "average": [local(part_of(value, like)) for value, like in pairs]})
            self.handed_on = self.average.handed_on
        self.generator.set_state(state["chance"])
        if state["settings"]["clips"] == self.data.digest:
            self.epoch = Epoch.of_state(state["epoch"])
        self.record = TrainingRecord(**state["record"])
        logging.info("[AnimateDiff] Training goes on from step %d of %s", self.record.steps, path)
