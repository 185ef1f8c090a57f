"""The frozen UNet that training goes through: a private copy of the MODEL with motion modules in it."""

from collections.abc import Iterable
from contextlib import nullcontext
from functools import partial
from itertools import chain, pairwise

import torch

from ..host import training as host
from ..host.attention import attention_for_training
from ..motion_models.network.call import CALL_KEY, FRAMES_KEY, MotionCall, MotionInputs
from ..motion_models.network.checkpointing import checkpointed
from ..motion_models.network.group_norm import joint_group_norm
from ..motion_models.network.injection import MotionSlot, inject, run_slot
from ..motion_models.network.temporal import MotionModel, TemporalAttention
from ..sampling.paths.attention import SpatialAttention
from .texts import TextOfClips

BLURRED = 3  # see TrainingUNet.share


class TrainingUNet:
    """A copy of a MODEL's UNet; the MODEL is not touched. Predicts for clips, with gradients.

    ``motion_models`` run inside it as they would when sampling: the first of the list runs last at each place.
    """

    def __init__(self, patcher, motion_models: list[MotionModel], dtype: torch.dtype, checkpointing: bool):
        self.device = host.training_device()
        self.dtype = dtype
        self.base = host.unet_copy(patcher, dtype, self.device)
        self.sampling = self.base.model_sampling
        self.predicts_v = host.predicts_v(self.sampling)
        self.unet = self.base.diffusion_model
        self.texts = TextOfClips(self.unet)
        inject(self.unet, motion_models)
        for module in chain.from_iterable(model.modules() for model in motion_models):
            if isinstance(module, TemporalAttention):
                module.attend = attention_for_training()
        self.joint_group_norm = bool(motion_models) and motion_models[0].spec.joint_group_norm
        self.options = host.transformer_options(patcher)
        patches = self.options.get("patches", {})
        self.options["patches"] = {**patches, "forward_timestep_embed_patch": [(MotionSlot, run_slot)]}
        self.norm = nullcontext  # how group norms work in the call at hand
        self.checkpointing = checkpointing

    def prepare(self, conditionings: list[host.Conditioning], sizes: Iterable[torch.Size], frames: int) -> None:
        """Compute what the UNet needs of all ``conditionings``, once for each of the ``sizes`` (c, h, w) that clips have."""
        self.conds = {
            tuple(size): host.PreparedConds(
                self.base, conditionings, torch.zeros(frames, *size, device=self.device), self.device
            )
            for size in sizes
        }

    @property
    def timesteps(self) -> int:
        return len(self.sampling.sigmas)

    def sigma(self, timesteps: torch.Tensor) -> torch.Tensor:
        """Noise levels ``(clips,)`` of discrete time steps ``(clips,)``."""
        return self.sampling.sigmas.to(self.device)[timesteps.to(self.device)].float()

    def add_noise(self, latents: torch.Tensor, noise: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """Noisy latents ``(clips, frames, c, h, w)`` in the scale that the UNet works in, from the VAE's latents."""
        clean = self.base.process_latent_in(latents)
        # [:, None, ...]: one noise level for all frames of a clip
        return clean + noise * sigma.view(-1, 1, 1, 1, 1)

    def share(self, sigma: torch.Tensor) -> torch.Tensor:
        """How much of what moves in a clip is there at ``sigma`` while it is sampled from pure noise, as a part of what there will be.

        Euler's method would have ``1 - sigma/sigma_max`` if the first predictions were right, but they are blurred, since at first
        everything is possible. The third power is what a model with a MotionLoRA has of it in the toy world (docs/toyworld.md).
        """
        return (1 - sigma / self.sampling.sigmas[-1].to(sigma)) ** BLURRED

    def prediction(
        self,
        latents: torch.Tensor,
        noise: torch.Tensor,
        sigma: torch.Tensor,
        conditionings: list[int],
        inputs: tuple[MotionInputs, ...] = (),
        from_pure_noise: bool = False,
        in_boxes: SpatialAttention | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What the network makes of noised clips, in its own terms, and what it should make of them; float32.

        That is the noise, or v = alpha eps - sigma x of v-prediction (Salimans and Ho, arXiv 2202.00512, section 4). At high noise the
        noise says next to nothing about a v-prediction model: it is nearly all of what the network is given.
        ``latents`` and ``noise (clips, frames, c, h, w)``, ``sigma (clips,)``; else as ``denoised``.

        ``from_pure_noise``: there is as little of the clip in the noisy one as sampling has made of it by then,
        ``share(sigma) x + sigma eps``, and none at the highest level. Else there is all of it, even there, as schedules end before
        pure noise (Lin et al., arXiv 2305.08891), and what is read from it need not be learned: when clips are sampled, chance
        then says what moves where.
        """
        noisy = self.add_noise(latents, noise, sigma)
        level = sigma.view(-1, 1, 1, 1, 1)
        clean = self.base.process_latent_in(latents)
        if from_pure_noise:
            missing = clean * (1 - self.share(level))
            noisy, noise = noisy - missing, noise - missing / level
        if not self.predicts_v:
            return self.predict_noise(noisy, sigma, conditionings, inputs, in_boxes), noise
        denoised = self.denoised(noisy, sigma, conditionings, inputs, in_boxes)
        root = (level**2 + 1).sqrt()
        return (noisy / root - root * denoised) / level, (noise - level * clean) / root

    def predict_noise(
        self,
        noisy: torch.Tensor,
        sigma: torch.Tensor,
        conditionings: list[int],
        inputs: tuple[MotionInputs, ...] = (),
        in_boxes: SpatialAttention | None = None,
    ) -> torch.Tensor:
        """The noise in ``noisy (clips, frames, c, h, w)`` at ``sigma (clips,)``, float32. Arguments as in ``denoised``."""
        return (noisy - self.denoised(noisy, sigma, conditionings, inputs, in_boxes)) / sigma.view(-1, 1, 1, 1, 1)

    def denoised(
        self,
        noisy: torch.Tensor,
        sigma: torch.Tensor,
        conditionings: list[int],
        inputs: tuple[MotionInputs, ...] = (),
        in_boxes: SpatialAttention | None = None,
    ) -> torch.Tensor:
        """The clips that the network sees in ``noisy (clips, frames, c, h, w)`` at ``sigma (clips,)``, float32.

        ``conditionings`` numbers, per clip, those given to ``prepare``; ``inputs`` go to the motion models. ``in_boxes``: of a single
        clip, whose attention keeps to boxes.
        """
        clips, frames = noisy.shape[:2]
        options = {
            **self.options,
            "cond_or_uncond": [0] * clips,
            "sigmas": sigma,
            CALL_KEY: MotionCall(inputs, frames),
        }
        if in_boxes is not None:
            options[FRAMES_KEY] = {"sub_idxs": None, "full_length": frames}
            options |= in_boxes.with_ties(options, list(range(frames)), frozenset(), noisy.shape[3:])
        self.norm = partial(joint_group_norm, self.unet, frames) if self.joint_group_norm else nullcontext
        prepared = self.conds[tuple(noisy.shape[2:])]
        conds = prepared.batch(conditionings, frames)
        # as the UNet gets it, so that the host has nothing to cast, and hands on this very tensor
        conds["c_crossattn"] = conds["c_crossattn"].to(self.device, self.dtype)
        self.texts.announce(conds["c_crossattn"], frames if prepared.still(conditionings) else 1)
        # the backward pass computes layers again after the call is over, so they carry its group norm with them
        with self.norm(), checkpointed(self.unet, self.norm, but_last=True) if self.checkpointing else nullcontext():
            denoised = self.base.apply_model(
                noisy.flatten(0, 1), sigma.repeat_interleave(frames), transformer_options=options, **conds
            )
        return denoised.unflatten(0, (clips, frames))

    @torch.no_grad()
    def draw(
        self,
        noise: torch.Tensor,
        conditioning: int,
        inputs: tuple[MotionInputs, ...],
        steps: int,
        in_boxes: SpatialAttention | None = None,
    ) -> torch.Tensor:
        """A clip from ``noise (frames, c, h, w)`` in a few deterministic steps (DDIM, arXiv 2010.02502), no guidance.

        For previews: what the weights at hand make of the first conditioning, in the UNet's scale.
        """
        levels = self.sigma(torch.linspace(self.timesteps - 1, 0, steps).round().long())
        levels = torch.cat((levels, levels.new_zeros(1)))
        x = noise.to(self.device).unsqueeze(0) * levels[0]
        for sigma, following in pairwise(levels):
            x = x + self.predict_noise(x, sigma.view(1), [conditioning], inputs, in_boxes) * (following - sigma)
        return x[0]
