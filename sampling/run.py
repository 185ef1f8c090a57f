"""One sampler run: the facts, and each feature at its moments. No feature is known here by name.

``outer_sample`` makes the run and leaves what is under way in the run's own transformer_options; every denoiser call of
every guider then passes through ``calc_cond_batch``. Nothing of it is stored anywhere else, so nested runs and runs one
after another cannot see each other.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from ..host.context_windows import window_of_call
from ..motion_models.network.call import FRAMES_KEY
from .checks import check_latents
from .feature import AroundCall, Call, Feature, Pass, Predictions, Run, Step

# The key under which a MODEL carries everything of ours (attachment, additional models, injections, wrappers).
MODEL_KEY = "AnimateDiff"
# In the model_options of a run: the pass under way. Not in their transformer_options, which the UNet sees.
PASS_KEY = "animatediff_pass"


@dataclass(eq=False)
class PassUnderWay:
    """``step`` counts as the sampler's callback does: after the first call of each step."""

    run: Run
    around_calls: Sequence[AroundCall]
    step: int = 0


def features_of(model) -> tuple[Feature, ...]:
    """The features that a MODEL carries, outermost first."""
    return model.get_attachment(MODEL_KEY) or ()


def outer_sample(
    executor,
    noise,
    latent_image,
    sampler,
    sigmas,
    denoise_mask=None,
    callback=None,
    disable_pbar=False,
    seed=None,
    **kwargs,
):
    """OUTER_SAMPLE wrapper: the life of one run, in as many passes as its features make."""
    guider = executor.class_obj
    check_latents(latent_image)
    run = Run(guider, latent_image, noise, sigmas, seed or 0, denoise_mask)
    features = features_of(run.patcher)
    for feature in features:
        feature.check(run)
    conds = _copied(guider.conds)

    def one_pass(start: Pass) -> torch.Tensor:
        under_way = PassUnderWay(run, start.around_calls)
        run.model_options[PASS_KEY] = under_way
        # the host prepares conds for a pass in place
        guider.conds = _copied(conds)

        def counted(step, *args):
            for function in start.after_step:
                function(step, *args)
            under_way.step = step + 1

        return executor(
            start.noise, start.latents, start.sampler, start.sigmas, denoise_mask, counted, disable_pbar, seed, **kwargs
        )

    try:
        return _nested([partial(feature.sample, run) for feature in features], one_pass)(
            Pass(noise, latent_image, sampler, sigmas, () if callback is None else (callback,))
        )
    finally:
        # The host leaves models injected until another takes their place. Then a LoRA node looking for layers by name
        # would miss those behind an injected one, so the UNet is handed back as it was.
        for loaded in (run.patcher, *run.patcher.get_additional_models_with_key("multigpu")):
            loaded.eject_model()


def calc_cond_batch(executor, model, conds, x_in, timestep, model_options) -> Predictions:
    """CALC_COND_BATCH wrapper: where every guider passes, for each denoiser call (and each window of the host's)."""
    under_way: PassUnderWay | None = model_options.get(PASS_KEY)
    if under_way is None:
        # no run of ours, as when another guider borrows this MODEL: its slots say so if they are reached
        return executor(model, conds, x_in, timestep, model_options)
    run = under_way.run

    def evaluate(call: Call) -> Predictions:
        frames = {
            "full_length": run.frames,
            "context_length": None if call.window is None else call.frames,
            "sub_idxs": call.window,
        }
        changed = {**call.model_options["transformer_options"], **call.options, FRAMES_KEY: frames}
        return executor(
            model, call.conds, call.x, call.timestep, {**call.model_options, "transformer_options": changed}
        )

    step = Step.of(under_way.step, timestep)
    window = window_of_call(model_options["transformer_options"], len(x_in))
    return _nested(under_way.around_calls, evaluate)(Call(run, step, conds, x_in, timestep, model_options, window))


def _nested(functions: Iterable[Callable], innermost: Callable) -> Callable:
    """``functions`` around each other, the first one outermost: each is given what to go on with as ``then``."""
    for function in reversed(tuple(functions)):
        innermost = partial(_around, function, innermost)
    return innermost


def _around(function: Callable, then: Callable, argument):
    return function(argument, then)


def _copied(conds: dict[str, list[dict]]) -> dict[str, list[dict]]:
    return {name: list(map(dict, of_name)) for name, of_name in conds.items()}
