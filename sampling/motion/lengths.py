"""Whether motion models can handle a clip, or its windows."""

import torch

from ...host.context_windows import frames_attending
from ..feature import Run
from ..keyframes import ActiveRange
from ..windows.context import Context, Contexts, cut_by
from .applied import AppliedMotionModel, MotionModels


def check_length(run: Run, motion_models: MotionModels, contexts: Contexts) -> None:
    """Raise ValueError if more frames attend to each other than a motion model has positions for."""
    contexts = contexts if cut_by(contexts, run.frames) else ()
    length, advice = run.frames, ""
    hosts = frames_attending(run.model_options, run.frames)
    if contexts:
        length = contexts[0].frames_attending(run.frames)
        advice = "Lower context_length (or view_length) of the Context Options node."
    elif hosts is not None:
        length = hosts
        advice = (
            "Lower context_length of the Context Windows node; with causal_window_fix the host adds one frame to it."
        )
    for motion_model in motion_models:
        most = motion_model.spec.max_frames
        later = [context for context in contexts[1:] if _meet(motion_model, context, run.model_sampling, run.sigmas)]
        longest = max([length, *(context.frames_attending(run.frames) for context in later)])
        if longest <= most:
            continue
        if advice:
            raise ValueError(
                f"A context window of {longest} frames is longer than the {most} frames that the motion model "
                f"'{motion_model.spec.name}' can handle at once. {advice}"
            )
        raise ValueError(
            f"The clip has {run.frames} frames, but the motion model '{motion_model.spec.name}' handles at most {most} at "
            f"once. Connect Context Options: Shared Windows with context_length {min(16, most)} to Use Evolved "
            "Sampling, or lower batch_size."
        )


def _meet(motion_model: AppliedMotionModel, context: Context, model_sampling, sigmas: torch.Tensor) -> bool:
    """Whether a motion model still acts when ``context`` is in force."""
    active = ActiveRange.of(motion_model.settings, model_sampling)
    if active is None:
        return True
    start = float(model_sampling.percent_to_sigma(context.start_percent))
    # a step at the very sigma where one ends and the other begins belongs to both
    return active.end_sigma < start or (active.end_sigma == start and start in sigmas.tolist())
