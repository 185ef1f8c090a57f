"""Motion models as a feature of a MODEL: injected while it samples, told before each UNet call what to do."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from comfy.patcher_extension import PatcherInjection, WrappersMP

from ...host.compiling import is_compiled
from ...host.extra_nodes import is_from
from ...host.memory import rows_that_fit
from ...host.multigpu import keep_clones_in_step, let_clones_be
from ...host.progress import note
from ...motion_models.network.call import BYPASS, CALL_KEY, MotionCall
from ...motion_models.network.frame_chunks import in_chunks, kept_bytes
from ...motion_models.network.group_norm import joint_group_norm
from ...motion_models.network.injection import MotionSlot, eject, inject, run_slot
from ...motion_models.network.skips import in_ram
from ..feature import AroundCall, Call, Denoise, Feature, Pass, Predictions, Run
from ..run import MODEL_KEY
from ..windows.context import Contexts
from .applied import MotionModels
from .in_run import MotionInRun
from .lengths import check_length

# The host's module whose guider trains LoRAs.
TRAINING = "nodes_train"
# Under it a MODEL carries the networks of adapters, beside the motion models.
ADAPTERS_KEY = f"{MODEL_KEY}.adapters"
TIMESTEP_EMBED_PATCH = "forward_timestep_embed_patch"
ONE_FRAME = (
    "The latent batch holds a single frame, so the motion model is bypassed. For an animation set batch_size of the empty "
    "latent to the number of frames, for example 16."
)


@dataclass(frozen=True, eq=False)
class Motion(Feature):
    """``contexts`` are those that cut the clip, for the check that its motion models can handle the length.

    ``joint_group_norm``: the UNet's group norms take their statistics over all frames of a clip together.
    """

    motion_models: MotionModels = ()
    contexts: Contexts = ()
    joint_group_norm: bool = False

    def attach(self, model) -> None:
        if not self.motion_models:
            return
        model.set_additional_models(MODEL_KEY, [motion_model.patcher.clone() for motion_model in self.motion_models])
        model.set_additional_models(ADAPTERS_KEY, [patcher.clone() for patcher in self._adapters_patchers()])
        keep_clones_in_step(model, MODEL_KEY, (MODEL_KEY, ADAPTERS_KEY))
        model.set_injections(MODEL_KEY, [PatcherInjection(_inject, _eject)])
        model.set_model_patch((MotionSlot, run_slot), TIMESTEP_EMBED_PATCH)
        if self.joint_group_norm or any(context.whole for context in self.contexts):
            wrapper = partial(_apply_model, self.joint_group_norm)
            model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, MODEL_KEY, wrapper)

    def detach(self, model) -> None:
        model.remove_wrappers_with_key(WrappersMP.APPLY_MODEL, MODEL_KEY)
        model.remove_additional_models(MODEL_KEY)
        model.remove_additional_models(ADAPTERS_KEY)
        let_clones_be(model, MODEL_KEY)
        model.remove_injections(MODEL_KEY)
        patches = model.model_options["transformer_options"].get("patches", {})
        if TIMESTEP_EMBED_PATCH in patches:
            patches[TIMESTEP_EMBED_PATCH] = [
                patch for patch in patches[TIMESTEP_EMBED_PATCH] if patch[0] is not MotionSlot
            ]

    def check(self, run: Run) -> None:
        if not self.motion_models:
            return
        if is_from(type(run.guider), TRAINING):
            raise ValueError(
                "Train LoRA takes single pictures, but the MODEL has motion models, which would take them for the frames of a "
                "clip. Connect the MODEL as it was before Use Evolved Sampling (or behind AnimateDiff Unload); or train with "
                "Train MotionLoRA or Train Domain Adapter."
            )
        note(ONE_FRAME if run.frames == 1 else "")
        if run.frames == 1:
            logging.warning("[AnimateDiff] %s", ONE_FRAME)
        check_length(run, self.motion_models, self.contexts)
        for applied in self.motion_models:
            for adapter in applied.settings.adapters:
                adapter.check(run, applied.spec)

    def sample(self, run: Run, start: Pass, then: Callable[[Pass], torch.Tensor]) -> torch.Tensor:
        # one frame has no motion: the modules would only disturb it
        in_run = tuple(MotionInRun.of(applied, run) for applied in self.motion_models if run.frames > 1)

        compiled, chunks = is_compiled(run.model_options), self.takes_chunks(run.model_options)
        on_several_devices = bool(run.patcher.get_additional_models_with_key("multigpu"))

        def around_call(call: Call, then: Denoise) -> Predictions:
            told = [motion.in_call(call) for motion in in_run]
            inputs = tuple(replace(inputs, windows=call.windows) for inputs, _ in told)
            inputs = inputs or (BYPASS,) * len(self.motion_models)
            chunk = call.chunk if chunks else None
            if chunk and chunk < call.frames and not on_several_devices:
                then = _cond_by_cond(then)
            for _, of_model in told:
                for adapter in of_model:
                    then = _within(adapter, then)
            skips_in_ram = call.skips_in_ram and not compiled
            return then(call.with_options(**{CALL_KEY: MotionCall(inputs, call.frames, chunk, skips_in_ram)}))

        return then(start.around_each_call(around_call))

    def takes_chunks(self, model_options: dict[str, Any]) -> bool:
        """Whether spatial layers can see a few frames at a time.

        Not where group norms take their statistics over all frames; what is altered in the UNet for single calls would be
        compiled anew in each; and without motion models nothing is.
        """
        return bool(self.motion_models) and not self.joint_group_norm and not is_compiled(model_options)

    def _adapters_patchers(self) -> list:
        """Each network once, though two motion models may have the same adapter."""
        adapters = [adapter for applied in self.motion_models for adapter in applied.settings.adapters]
        return list({id(patcher.model): patcher for adapter in adapters for patcher in adapter.patchers}.values())


def _cond_by_cond(then: Denoise) -> Denoise:
    """Where memory is to be saved, the hidden state and skip connections of one prompt at a time are enough."""
    return lambda call: [prediction for cond in call.conds for prediction in then(replace(call, conds=[cond]))]


def _within(adapter: AroundCall, then: Denoise) -> Denoise:
    return lambda call: adapter(call, then)


def _apply_model(
    joint: bool, executor, x, t, c_concat=None, c_crossattn=None, control=None, transformer_options=None, **kwargs
):
    """APPLY_MODEL wrapper for what is altered in the UNet for one call: ``joint`` group norm, or layers in chunks of frames.

    Around the UNet and not in it: there it would become part of compiled code, with the options of its first call.
    """
    call = MotionCall.of(transformer_options)
    clips = call.clips(x.shape[0])
    unet = executor.class_obj.diffusion_model
    if joint:
        altered = joint_group_norm(unet, call.frames)
    else:
        chunk = call.frames if call.chunk is None else call.chunk
        if chunk == 0:
            chunk = rows_that_fit(executor.class_obj, x, kept_bytes(unet, x)) // clips
        altered = in_chunks(unet, call.frames, chunk)
    if call.skips_in_ram:
        transformer_options, control = in_ram(transformer_options or {}, control)
    with altered:
        return executor(x, t, c_concat, c_crossattn, control, transformer_options, **kwargs)


def _inject(patcher) -> None:
    # looked up on the patcher at hand: clones and copies for other devices carry networks of their own
    models = [motion_model.model for motion_model in patcher.get_additional_models_with_key(MODEL_KEY)]
    inject(patcher.model.diffusion_model, models)


def _eject(patcher) -> None:
    eject(patcher.model.diffusion_model)
