"""Custom CFG: guidance that varies over the run, the frames and the picture, with perturbed attention and rescaling.

Works through the functions that every guider of the host passes its predictions through (``sampler_cfg_function`` and
those before and after it), so guiders that know nothing of it follow as well.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import comfy.model_patcher
import comfy.samplers
import torch

from ...motion_models.network.call import OPTIONS_KEY
from ...motion_models.network.strength import for_frames
from ..schedules.interpolation import interpolated
from ..selection import Selection
from ..strength.multival import Multival, is_number, resized

PRE_CFG, CFG, POST_CFG = "sampler_pre_cfg_function", "sampler_cfg_function", "sampler_post_cfg_function"
KEEP_UNCOND = "disable_cfg1_optimization"
# Our value of KEEP_UNCOND: the host then always has the negative prediction asked for, and we leave it out at CFG 1.
# Others set True, before or during the run, and mean it.
WE_DECIDE = "custom CFG"


@dataclass(frozen=True, eq=False)
class PerturbedAttention:
    """Adds guidance away from what the UNet predicts without self-attention in its middle.

    Ahn et al., "Self-Rectifying Diffusion Sampling with Perturbed-Attention Guidance" (arXiv 2403.17377).
    """

    scale: Multival

    def __call__(self, args: dict) -> torch.Tensor:
        """A sampler_post_cfg_function of the host."""
        if is_number(self.scale, 0.0):
            return args["denoised"]
        model, x = args["model"], args["input"]
        options = comfy.model_patcher.set_model_options_patch_replace(
            args["model_options"].copy(), lambda q, k, v, *_, **__: v, "attn1", "middle", 0
        )
        (perturbed,) = comfy.samplers.calc_cond_batch(model, [args["cond"]], x, args["sigma"], options)
        return args["denoised"] + (args["cond_denoised"] - perturbed) * for_latents(self.scale, x)


@dataclass(frozen=True, eq=False)
class RescaleCfg:
    """Brings the contrast of the guided prediction back to that of the positive one, in v-prediction.

    Lin et al., "Common Diffusion Noise Schedules and Sample Steps are Flawed" (arXiv 2305.08891), section 3.4.
    """

    multiplier: Multival

    def __call__(self, args: dict) -> torch.Tensor:
        """A sampler_cfg_function of the host."""
        noisy, sigma = args["input"], args["sigma"].view(-1, *[1] * (args["input"].ndim - 1))
        root = (sigma**2 + 1.0) ** 0.5
        x = noisy / (sigma**2 + 1.0)

        def velocity(noise: torch.Tensor) -> torch.Tensor:
            return (x - (noisy - noise)) * root / sigma

        def deviation(v: torch.Tensor) -> torch.Tensor:
            return v.std(dim=tuple(range(1, v.ndim)), keepdim=True)

        positive, negative = velocity(args["cond"]), velocity(args["uncond"])
        guided = negative + args["cond_scale"] * (positive - negative)
        rescaled = guided * (deviation(positive) / deviation(guided))
        multiplier = for_latents(self.multiplier, noisy)
        final = multiplier * rescaled + (1.0 - multiplier) * guided
        return noisy - (x - final * sigma / root)


Extra = PerturbedAttention | RescaleCfg


@dataclass(frozen=True, eq=False)
class CfgKeyframe:
    """From ``start_percent`` of the sampling schedule on, ``cfg`` replaces that of the sampler."""

    cfg: Multival
    start_percent: float = 0.0
    guarantee_steps: int = 1
    extras: tuple[Extra, ...] = ()


CustomCfg = tuple[CfgKeyframe, ...]


def with_cfg(keyframes: CustomCfg, previous: CustomCfg = ()) -> CustomCfg:
    """``keyframes`` behind those of ``previous`` that start with them or before them."""
    return tuple(sorted((*previous, *keyframes), key=lambda item: item.start_percent))


def keyframes_between(start: float, end: float, values: list[float], extras: tuple[Extra, ...]) -> CustomCfg:
    """One keyframe for each of ``values``, evenly from percent ``start`` to ``end``; the first one lasts a step at least."""
    percents = interpolated(start, end, len(values), "linear").tolist()
    return tuple(
        CfgKeyframe(value, percent, int(i == 0), extras)
        for i, (percent, value) in enumerate(zip(percents, values, strict=True))
    )


def log_keyframes(keyframes: CustomCfg) -> None:
    for keyframe in keyframes:
        logging.info("[AnimateDiff] CFG %s from %.3f", keyframe.cfg, keyframe.start_percent)


def for_latents(value: Multival, latents: torch.Tensor) -> float | torch.Tensor:
    """A mask with one picture per frame, ``(frames, 1, height, width)``, as the latents are; numbers stay."""
    if not isinstance(value, torch.Tensor):
        return value
    return for_frames(resized(value, *latents.shape[-2:]), len(latents)).to(latents)


@dataclass(frozen=True, eq=False)
class GuidanceRun:
    """Custom CFG in one run."""

    keyframes: CustomCfg
    selection: Selection

    @classmethod
    def of(cls, keyframes: CustomCfg, model_sampling, first_sigma: float) -> "GuidanceRun":
        most = float(model_sampling.sigma_max)
        starts = [
            most if keyframe.start_percent == 0.0 else float(model_sampling.percent_to_sigma(keyframe.start_percent))
            for keyframe in keyframes
        ]
        # one that starts with the run keeps its guaranteed steps, which Selection drops above the first sigma
        starts = [first_sigma if abs(start - first_sigma) < 1e-5 * first_sigma else start for start in starts]
        steps = [keyframe.guarantee_steps for keyframe in keyframes]
        return cls(keyframes, Selection(starts, steps, first_sigma))

    def at(self, sigma: Callable[[], float]) -> CfgKeyframe:
        return self.keyframes[self.selection.at(sigma()) if len(self.keyframes) > 1 else 0]

    def leaves_out_uncond(self, model_options: dict, sigma: Callable[[], float]) -> bool:
        """Whether CFG is 1, so that the negative prediction would not count: half of the work."""
        return model_options.get(KEEP_UNCOND) == WE_DECIDE and is_number(self.at(sigma).cfg, 1.0)


def install(model_options: dict) -> None:
    """Make the host's guiders ask the GuidanceRun of the run, whose own ``model_options`` these are."""
    theirs = model_options.get(CFG)
    model_options[CFG] = lambda args: _guided(args, theirs)
    for name in (PRE_CFG, POST_CFG):
        model_options[name] = [_with_our_cfg(function) for function in model_options.get(name, ())]
    model_options[POST_CFG].append(_extra_guidance)
    if not model_options.get(KEEP_UNCOND):
        model_options[KEEP_UNCOND] = WE_DECIDE


def _guidance(args: dict) -> tuple[GuidanceRun, Callable[[], float]]:
    run = args["model_options"]["transformer_options"][OPTIONS_KEY]
    return run.guidance, lambda: float(args["sigma"][0])


def _current(args: dict) -> CfgKeyframe:
    guidance, sigma = _guidance(args)
    return guidance.at(sigma)


def _guided(args: dict, theirs: Callable | None) -> torch.Tensor:
    guidance, sigma = _guidance(args)
    cond, uncond = args["cond"], args["uncond"]
    keyframe = guidance.at(sigma)
    cfg = for_latents(keyframe.cfg, args["input"])
    rescale = [extra for extra in keyframe.extras if isinstance(extra, RescaleCfg)]
    function = rescale[-1] if rescale else theirs
    if function is not None:
        return function({**args, "cond_scale": cfg})
    return cond if guidance.leaves_out_uncond(args["model_options"], sigma) else uncond + (cond - uncond) * cfg


def _with_our_cfg(function: Callable) -> Callable:
    """A function before or after CFG; before it, it also learns that there is no negative at CFG 1."""

    def with_our_cfg(args: dict):
        guidance, sigma = _guidance(args)
        changed = {"cond_scale": for_latents(guidance.at(sigma).cfg, args["input"])}
        if len(args.get("conds", ())) == 2 and guidance.leaves_out_uncond(args["model_options"], sigma):
            changed["conds"] = [args["conds"][0], None]
        return function({**args, **changed})

    return with_our_cfg


def _extra_guidance(args: dict) -> torch.Tensor:
    for extra in _current(args).extras:
        if isinstance(extra, PerturbedAttention):
            args = {**args, "denoised": extra(args)}
    return args["denoised"]
