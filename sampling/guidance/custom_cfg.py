"""Custom CFG: guidance that varies over the run, the frames and the picture.

Works through the functions that every guider of the host passes its predictions through (``sampler_cfg_function`` and
those before and after it), so guiders that know nothing of it follow as well.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import torch

from ..feature import Call, Denoise, Feature, Pass, Predictions, Run, Step
from ..keyframes import InForce, evenly, start_sigmas
from ..strength.multival import Multival, for_latents, is_number
from .perturbed_attention import PerturbedAttention
from .rescale_cfg import RescaleCfg

PRE_CFG, CFG, POST_CFG = "sampler_pre_cfg_function", "sampler_cfg_function", "sampler_post_cfg_function"
KEEP_UNCOND = "disable_cfg1_optimization"
# Our value of KEEP_UNCOND: the host then always has the negative prediction asked for, and we leave it out at CFG 1.
# Others set True, before or during the run, and mean it.
WE_DECIDE = "custom CFG"


Extra = PerturbedAttention | RescaleCfg


@dataclass(frozen=True, eq=False)
class CfgKeyframe:
    """From ``start_percent`` of the sampling schedule on, ``cfg`` replaces that of the sampler."""

    cfg: Multival
    start_percent: float = 0.0
    guarantee_steps: int = 1
    extras: tuple[Extra, ...] = ()


CustomCfg = tuple[CfgKeyframe, ...]


def keyframes_between(start: float, end: float, values: list[float], extras: tuple[Extra, ...]) -> CustomCfg:
    """One keyframe for each of ``values``, evenly from percent ``start`` to ``end``; the first one lasts a step at least."""
    return evenly(start, end, values, partial(CfgKeyframe, extras=extras))


@dataclass(frozen=True, eq=False)
class GuidanceRun:
    """Custom CFG in one run."""

    keyframes: CustomCfg
    in_force: InForce

    @classmethod
    def of(cls, keyframes: CustomCfg, model_sampling, first_sigma: float) -> "GuidanceRun":
        # The host puts percent 0 above all sigmas. One that starts with the run keeps its guaranteed steps, though, which
        # InForce drops above the first sigma.
        most = float(model_sampling.sigma_max)
        starts = [min(start, most) for start in start_sigmas(keyframes, model_sampling)]
        starts = [first_sigma if abs(start - first_sigma) < 1e-5 * first_sigma else start for start in starts]
        return cls(keyframes, InForce(keyframes, starts, first_sigma))

    def at(self, step: Step) -> CfgKeyframe:
        return self.keyframes[self.in_force.at(step)]

    def leaves_out_uncond(self, model_options: dict, step: Step) -> bool:
        """Whether CFG is 1, so that the negative prediction would not count: half of the work."""
        return model_options.get(KEEP_UNCOND) == WE_DECIDE and is_number(self.at(step).cfg, 1.0)

    def around_call(self, call: Call, then: Denoise) -> Predictions:
        if len(call.conds) == 2 and self.leaves_out_uncond(call.model_options, call.step):
            call = replace(call, conds=[call.conds[0], None])
        return then(call)


@dataclass(frozen=True, eq=False)
class Guidance(Feature):
    """Custom CFG on a MODEL: ``keyframes`` take the place of the sampler's CFG."""

    keyframes: CustomCfg

    def attach(self, model) -> None:
        logging.info("[AnimateDiff] The custom CFG of the sample settings takes the place of the sampler's cfg.")

    def sample(self, run: Run, start: Pass, then: Callable[[Pass], torch.Tensor]) -> torch.Tensor:
        guidance = GuidanceRun.of(self.keyframes, run.model_sampling, run.first_sigma)
        with _installed(guidance, run.model_options):
            return then(start.around_each_call(guidance.around_call))


@contextmanager
def _installed(guidance: GuidanceRun, model_options: dict) -> Iterator[None]:
    """Make the host's guiders, which pass their predictions through functions in ``model_options``, ask ``guidance``."""
    before = {name: model_options[name] for name in (PRE_CFG, CFG, POST_CFG, KEEP_UNCOND) if name in model_options}
    try:
        model_options[CFG] = partial(_guided, guidance, before.get(CFG))
        for name in (PRE_CFG, POST_CFG):
            model_options[name] = [partial(_with_our_cfg, guidance, function) for function in before.get(name, ())]
        model_options[POST_CFG].append(partial(_extra_guidance, guidance))
        if not before.get(KEEP_UNCOND):
            model_options[KEEP_UNCOND] = WE_DECIDE
        yield
    finally:
        for name in (PRE_CFG, CFG, POST_CFG, KEEP_UNCOND):
            model_options.pop(name, None)
        model_options.update(before)


def _step(args: dict) -> Step:
    return Step.of(0, args["sigma"])


def _guided(guidance: GuidanceRun, theirs: Callable | None, args: dict) -> torch.Tensor:
    cond, uncond, step = args["cond"], args["uncond"], _step(args)
    keyframe = guidance.at(step)
    cfg = for_latents(keyframe.cfg, args["input"])
    rescale = [extra for extra in keyframe.extras if isinstance(extra, RescaleCfg)]
    function = rescale[-1] if rescale else theirs
    if function is not None:
        return function({**args, "cond_scale": cfg})
    return cond if guidance.leaves_out_uncond(args["model_options"], step) else uncond + (cond - uncond) * cfg


def _with_our_cfg(guidance: GuidanceRun, function: Callable, args: dict):
    """A function before or after CFG; before it, it also learns that there is no negative at CFG 1."""
    step = _step(args)
    changed: dict[str, object] = {"cond_scale": for_latents(guidance.at(step).cfg, args["input"])}
    if len(args.get("conds", ())) == 2 and guidance.leaves_out_uncond(args["model_options"], step):
        changed["conds"] = [args["conds"][0], None]
    return function({**args, **changed})


def _extra_guidance(guidance: GuidanceRun, args: dict) -> torch.Tensor:
    for extra in guidance.at(_step(args)).extras:
        if isinstance(extra, PerturbedAttention):
            args = {**args, "denoised": extra(args)}
    return args["denoised"]
