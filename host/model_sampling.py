"""Noise schedules as the host's ``model_sampling`` objects."""

from types import SimpleNamespace
from typing import Any

import comfy.ldm.modules.diffusionmodules.util as schedules
import comfy.model_base
import comfy.model_sampling
import torch

TIMESTEPS = 1000
# Betas of Stable Diffusion.
LINEAR_START, LINEAR_END = 0.00085, 0.012


# The host's classes of schedules stand behind the ones here.
AnySchedule: Any = object


class OwnTables(AnySchedule):
    """Keeps the sigma tables of a schedule out of the reach of dynamic VRAM.

    With dynamic VRAM the host saves a model's buffers by their path (``model_sampling.sigmas``) and writes them back
    by path, also when another clone of the model has another object at that path by then: after one run with a
    schedule of its own every later run of the checkpoint keeps its sigmas, and the other way round
    (Comfy-Org/ComfyUI issue 16490). Tables that are no buffers are neither saved nor overwritten.
    """

    def set_sigmas(self, sigmas: torch.Tensor) -> None:
        self.sigmas = sigmas.float()
        self.log_sigmas = sigmas.double().log().float()

    def _register_schedule(self, given_betas=None, beta_schedule="linear", timesteps=TIMESTEPS, **settings):
        zsnr = settings.pop("zsnr", False)
        if given_betas is None:
            # as_tensor: for squaredcos_cap_v2 the host's function returns a NumPy array
            given_betas = torch.as_tensor(schedules.make_beta_schedule(beta_schedule, timesteps, **settings))
        super()._register_schedule(given_betas=given_betas, timesteps=timesteps, zsnr=zsnr, **settings)

    def register_buffer(self, name, tensor, persistent=True):
        if name not in ("sigmas", "log_sigmas"):
            super().register_buffer(name, tensor, persistent=persistent)

    def _apply(self, fn, *args, **kwargs):
        # .to(device) moves them all the same, as it does with buffers
        super()._apply(fn, *args, **kwargs)
        self.sigmas, self.log_sigmas = fn(self.sigmas), fn(self.log_sigmas)
        return self


def is_ours(sampling: torch.nn.Module) -> bool:
    """Whether it was made here, and not by the host or another pack."""
    return isinstance(sampling, OwnTables)


def keep_on(sampling: torch.nn.Module, device: torch.device) -> None:
    """Put a schedule of ours where the model computes, or every step would wait for its sigma to reach the CPU.

    The host does so with buffers, which our tables are not. Schedules of others are left alone.
    """
    if is_ours(sampling):
        sampling.to(device)


def discrete_schedule(
    model_type, schedule: str, linear_end: float, linear_start: float = LINEAR_START, zsnr: bool = False
) -> torch.nn.Module:
    """A schedule of 1000 timesteps, sampled the way ``model_type`` (eps, v-prediction, …) of the checkpoint wants.

    ``schedule`` is the host's name: its ``linear`` is linear in sqrt(beta), its ``sqrt_linear`` linear in beta.
    ``zsnr`` rescales it so that the last timestep is pure noise (Lin et al., arXiv 2305.08891).
    """
    config = SimpleNamespace(sampling_settings={"linear_end": linear_end})
    table, prediction = type(comfy.model_base.model_sampling(config, model_type)).__bases__
    if not issubclass(table, comfy.model_sampling.ModelSamplingDiscrete):
        raise ValueError(
            f"The checkpoint samples with {model_type.name} noise levels, which have no beta schedule. "
            "Choose beta_schedule 'use existing'."
        )
    sampling = type("ModelSampling", (OwnTables, table, prediction), {})(config)
    sampling._register_schedule(beta_schedule=schedule, linear_start=linear_start, linear_end=linear_end, zsnr=zsnr)
    return sampling


class FewSteps(OwnTables):
    """Tables of the few timesteps of a latent consistency model."""

    def timestep(self, sigma: torch.Tensor) -> torch.Tensor:
        # LCM schedulers ask for steps half-way between two entries of the table. In float32 the rounding of log(),
        # which differs from machine to machine, would decide which of the two it is, and that is visible.
        return super().timestep(sigma.double() if sigma.device.type in ("cpu", "cuda") else sigma)


def lcm_schedule(
    schedule: str,
    original_timesteps: int,
    linear_end: float = LINEAR_END,
    linear_start: float = LINEAR_START,
    zsnr: bool = False,
) -> torch.nn.Module:
    """The few timesteps a latent consistency model was distilled on, sampled as LCM (arXiv 2310.04378)."""
    # Not at the top: the host loads its extra nodes by path, so that for this name it would read the file once more,
    # and without this file the pack can do all but LCM.
    from comfy_extras.nodes_model_advanced import LCM, ModelSamplingDiscreteDistilled

    settings = {"beta_schedule": schedule, "linear_start": linear_start, "linear_end": linear_end, "zsnr": zsnr}
    bases = (FewSteps, ModelSamplingDiscreteDistilled, LCM)
    sampling = type("ModelSamplingLCM", bases, {"original_timesteps": original_timesteps})
    return sampling(SimpleNamespace(sampling_settings=settings))
