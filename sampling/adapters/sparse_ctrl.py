"""SparseCtrl in a run: a ControlNet of the host's kind that knows which frames of the clip it is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import comfy.controlnet
import comfy.model_management
import comfy.utils
import torch

from ...host.controlnet import clones_of, set_clones
from ...host.multigpu import copy_for_device
from ...motion_models.adapters.network import compute_dtype
from ...motion_models.adapters.sparse_ctrl import PIXELS
from ...motion_models.network.call import FRAMES_KEY
from ...motion_models.network.strength import FrameMask, Strength, VaryingStrength
from ..feature import Step
from ..strength.in_run import StrengthInRun


class SparseControl(comfy.controlnet.ControlBase):
    """``network``: the host's patcher of a SparseControlNet. ``indexes``: the frames that the pictures are of.

    As the host's own, it keeps what it prepared for a run until ``cleanup``. ``indexes`` of None: the first frames.
    """

    # The mark of ControlNets that find the frames of a window by themselves: here in the options of the call.
    sub_idxs = None
    # It finds those of several windows in one call, too.
    follows_several_windows = True

    def __init__(self, network: Any, indexes: Sequence[int] | None = None, varying: VaryingStrength | None = None):
        super().__init__()
        self.network, self.indexes, self.varying = network, indexes, varying or VaryingStrength()
        self.base: Any = None
        self.vae: Any = None
        self.previous_controlnet: Any = None
        self.cond_hint_original: Any = None
        self.in_run: StrengthInRun | None = None

    def copy(self) -> SparseControl:
        copied = SparseControl(self.network, self.indexes, self.varying)
        self.copy_to(copied)
        return copied

    def deepclone_multigpu(self, load_device, autoregister=False) -> SparseControl:
        """A copy for another GPU, with a network of its own there, as the host asks for; ``autoregister``: to be found by it."""
        copied = self.copy()
        copied.network = copy_for_device(self.network, load_device)
        if autoregister:
            set_clones(self, {**clones_of(self), load_device: copied})
        return copied

    def for_frames(self, indexes: Sequence[int], varying: VaryingStrength) -> SparseControl:
        """A copy whose pictures are of the frames ``indexes`` (negative: from the end), and whose strength varies."""
        copied = self.copy()
        copied.indexes, copied.varying = indexes, varying
        return copied

    def set_cond_hint(self, cond_hint, strength=1.0, timestep_percent_range=(0.0, 1.0), vae=None, extra_concat=()):
        super().set_cond_hint(cond_hint, strength, timestep_percent_range, vae, list(extra_concat))
        self.vae = vae
        return self

    def get_models(self) -> list:
        return [*super().get_models(), self.network]

    def pre_run(self, model, percent_to_timestep_function) -> None:
        super().pre_run(model, percent_to_timestep_function)
        self.base = model

    def cleanup(self) -> None:
        super().cleanup()
        self.base = self.in_run = None

    def get_control(self, x_noisy, t, cond, batched_number, transformer_options):
        previous = None
        if self.previous_controlnet is not None:
            previous = self.previous_controlnet.get_control(x_noisy, t, cond, batched_number, transformer_options)
        if self.timestep_range is not None and not self.timestep_range[1] <= t[0] <= self.timestep_range[0]:
            return previous
        told: Mapping[str, Any] = transformer_options.get(FRAMES_KEY, {})
        frames = told.get("context_length") or x_noisy.shape[0] // batched_number
        window, clip = told.get("sub_idxs"), told.get("full_length") or frames
        self._check(frames)
        if self.in_run is None:
            self.in_run = StrengthInRun.of(self.varying, self.base.model_sampling, clip)
        strength = self.in_run.at(Step.of(0, t), window)
        if strength == 0.0:
            return previous
        network = self.network.model
        dtype = compute_dtype(network.control, x_noisy.dtype)
        hint = self._hint(clip, x_noisy)
        hint = (hint if window is None else hint[window]).to(dtype).repeat(batched_number, 1, 1, 1)
        context = cond.get("crossattn_controlnet", cond["c_crossattn"]).to(x_noisy.device, dtype)
        timesteps = self.base.model_sampling.timestep(t).to(dtype)
        control = network(hint, timesteps, context, frames)
        weighed = {key: [_times(x, strength, batched_number) for x in values] for key, values in control.items()}
        return self.control_merge(weighed, previous, output_dtype=x_noisy.dtype)

    def _check(self, frames: int) -> None:
        most = self.network.model.max_frames
        if frames > most:
            raise ValueError(
                f"SparseCtrl '{self.network.model.motion.spec.name}' handles at most {most} frames at once, but is asked for "
                f"{frames}. Connect a Context Options node with a context_length of {min(16, most)} to Use Evolved Sampling, or "
                "lower batch_size."
            )

    def _hint(self, clip: int, x_noisy: torch.Tensor) -> torch.Tensor:
        """``(frames of the clip, channels + 1, height, width)``: the pictures where there are some, and where that is."""
        network, (height, width) = self.network.model, x_noisy.shape[-2:]
        size = (height, width) if network.of_latents else (PIXELS * height, PIXELS * width)
        if self.cond_hint is None or self.cond_hint.shape[:1] + self.cond_hint.shape[2:] != (clip, *size):
            pictures = self._pictures(network, height, width).float().to(x_noisy.device)
            frames = placed(self.indexes, len(pictures), clip)
            hint = pictures.new_zeros(clip, network.hint_channels + 1, *size)
            for place, frame in enumerate(frames):
                hint[frame, :-1] = pictures[min(place, len(pictures) - 1)]
                hint[frame, -1] = 1.0
            self.cond_hint = hint
        return self.cond_hint

    def _pictures(self, network, height: int, width: int) -> torch.Tensor:
        images = self.cond_hint_original[:, :3]
        images = comfy.utils.common_upscale(images, PIXELS * width, PIXELS * height, "bilinear", "center")
        if not network.of_latents:
            return images
        check_vae(self.vae, network)
        loaded = comfy.model_management.loaded_models(only_currently_used=True)
        latents = self.vae.encode(images.movedim(1, -1))
        comfy.model_management.load_models_gpu(loaded)
        return self.base.latent_format.process_in(latents)


def check_vae(vae, network) -> None:
    """Raise ValueError if the SparseControlNet ``network`` needs a VAE, and ``vae`` does not do."""
    if network.of_latents and getattr(vae, "latent_channels", None) != network.hint_channels:
        raise ValueError(
            f"SparseCtrl '{network.motion.spec.name}' takes pictures as latents of {network.hint_channels} channels. Connect the "
            "VAE of the checkpoint to vae of Apply SparseCtrl."
        )


def placed(indexes: Sequence[int] | None, pictures: int, clip: int) -> list[int]:
    """The frames of a clip that pictures are of, counted from 0. Raises ValueError for one that the clip does not have."""
    indexes = range(min(pictures, clip)) if indexes is None else indexes
    for index in indexes:
        if not -clip <= index < clip:
            raise ValueError(
                f"indexes of Apply SparseCtrl names frame {index}, but the clip has {clip} frames: 0 to {clip - 1}, or -1 for the "
                "last. Change indexes, or batch_size."
            )
    return [index % clip for index in indexes]


def _times(x: torch.Tensor, strength: Strength, clips: int) -> torch.Tensor:
    if not isinstance(strength, FrameMask):
        return x * strength if strength != 1.0 else x
    height, width = x.shape[-2:]
    return x * strength.at(height, width, like=x).repeat(clips, 1, 1, 1)
