"""MotionClone: the motion of a reference clip guides another, through temporal attention and without training.

Ling et al., "MotionClone: Training-Free Motion Cloning for Controllable Video Generation" (arXiv 2406.05338), section 3. One
UNet pass on the noised reference gives its motion maps (``maps.py``). In the first part of the schedule the energy g of the
clip, its distance from them, guides the noise prediction as a classifier does:

    ``eps = eps_cfg + strength * sqrt(1 - alpha_bar) * dg/dz``

The host's latents are ``x = z / sqrt(alpha_bar)``, with ``sigma^2 = (1 - alpha_bar) / alpha_bar``: so the second term is
``strength * sigma * dg/dx``, and ``denoised = x - sigma * eps`` loses ``strength * sigma^2 * dg/dx``, whatever the UNet predicts.

This is a term of the differential equation that samplers solve, so the strength does not depend on the number of steps. The
authors' code takes its gradient off the latents once a step instead (weight 2000, 50 to 180 guided steps).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ...host.compiling import is_compiled
from ...motion_models.network.injection import check_unet
from ..animate import feature_of
from ..feature import Call, Denoise, Feature, Pass, Predictions, Run
from ..keyframes import ActiveRange
from ..motion.feature import Motion
from ..windows.context import cut_by, extras_of
from ..windows.in_run import Windows
from ..windows.other_packs import skips_calls
from .maps import MotionMaps
from .passes import gradient_of_energy, motion_maps

# Where in the schedule the reference is looked at: the paper's timestep 400 of 1000.
REFERENCE_PERCENT = 0.6
TOP_K = 1  # the paper's
DEFAULT_STRENGTH = 800.0
DEFAULT_END = 0.6


@dataclass(frozen=True, eq=False)
class MotionClone(Feature):
    """``reference (frames, channels, height, width)``: latents in the scale of the VAE, as many as the clip has frames.

    ``up_block``: which of the motion model's up blocks is read, counted from the deepest; the last where it has fewer.
    """

    one_window_each = "Motion Clone"

    reference: torch.Tensor
    strength: float = DEFAULT_STRENGTH
    start_percent: float = 0.0
    end_percent: float = DEFAULT_END
    up_block: int = 1

    def check(self, run: Run) -> None:
        check_unet(run.patcher.get_model_object("diffusion_model"), "Motion Clone is")
        if _block(run, self.up_block) is None:
            raise ValueError(
                "Motion Clone reads the motion in the temporal attention of a motion model's up blocks, but the MODEL has no motion "
                "model with such blocks. Connect it behind Use Evolved Sampling, with a motion model in m_models."
            )
        if is_compiled(run.model_options):
            raise ValueError(
                "Motion Clone needs gradients, which compiled code does not give. Take TorchCompileModel off the MODEL, or Motion "
                "Clone."
            )
        if skips_calls(run):
            raise ValueError(
                "Motion Clone evaluates the UNet a second time in a step, and EasyCache would take that for a step that it may "
                "skip. Remove EasyCache (LazyCache, which leaves out whole steps, works), or Motion Clone."
            )
        if self.reference.shape != run.latents.shape:
            (frames, _, *size), (wanted, _, *other) = self.reference.shape, run.latents.shape
            raise ValueError(
                f"The reference of Motion Clone has {frames} frames with latents of {size[1]} x {size[0]}, but the clip has {wanted} "
                f"frames with {other[1]} x {other[0]}. Give it as many frames of the reference as the clip has (batch_size), and "
                "scale them to the size of the clip before VAE Encode, with the checkpoint's VAE."
            )
        windows = feature_of(run.patcher, Windows)
        contexts = windows.contexts if windows is not None and cut_by(windows.contexts, run.frames) else ()
        if any(
            context.views is not None and context.views.cuts(context.frames_at_once(run.frames)) for context in contexts
        ):
            raise ValueError(
                "Motion Clone compares how all frames of a window attend to each other, which views and shared windows do not let "
                "them. Remove the View Options (or take other Context Options than Shared Windows and Seamless Loop), or Motion Clone."
            )
        if extras_of(contexts).context_ref is not None:
            raise ValueError(
                "ContextRef hands features from window to window, and Motion Clone evaluates windows twice. Remove ContextRef from "
                "the context extras, or Motion Clone."
            )

    def sample(self, run: Run, start: Pass, then: Callable[[Pass], torch.Tensor]) -> torch.Tensor:
        block = _block(run, self.up_block)
        if self.strength == 0.0 or run.frames == 1 or block is None:
            return then(start)
        return then(start.around_each_call(_InPass(self, run, block).around_call))


def _motion(run: Run) -> Motion:
    return feature_of(run.patcher, Motion) or Motion()


def _block(run: Run, up_block: int) -> str | None:
    """How the names of the attentions that are read begin."""
    levels = max((len(one.spec.up) for one in _motion(run).motion_models if one.spec.attention_blocks), default=0)
    return f"up_blocks.{min(up_block, levels - 1)}." if levels else None


class _InPass:
    """One pass over the schedule. The motion maps of a window are kept for all of it."""

    def __init__(self, settings: MotionClone, run: Run, block: str):
        self.strength, self.block = settings.strength, block
        self.joint_group_norm = _motion(run).joint_group_norm
        self.active = ActiveRange.of(settings, run.model_sampling)
        latents = run.latent_format.process_in(settings.reference.float().cpu())
        noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(run.seed))
        self.sigma = torch.tensor(float(run.model_sampling.percent_to_sigma(REFERENCE_PERCENT)))
        self.noisy = run.model_sampling.noise_scaling(self.sigma, noise, latents)
        self.of_windows: dict[tuple[int, ...], MotionMaps] = {}

    def around_call(self, call: Call, then: Denoise) -> Predictions:
        if self.active is not None and not self.active.holds(call.step):
            return then(call)
        window = tuple(call.window or range(call.frames))
        if not self.of_windows.get(window):  # or the motion model took no part when they were looked at
            noisy = self.noisy[list(window)].to(call.x)
            self.of_windows[window] = motion_maps(call, then, noisy, self.sigma, self.block, TOP_K)
        maps = self.of_windows[window]
        gradient = gradient_of_energy(call, then, maps, self.joint_group_norm) if maps else None
        if gradient is None:
            return then(call)
        shift = self.strength * call.timestep.view(-1, 1, 1, 1) ** 2 * gradient
        # of all conds: then CFG, however it weights them, gives a prediction that is shifted as much
        return [prediction - shift for prediction in then(call)]
