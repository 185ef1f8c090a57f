"""Turning a MODEL into one that samples with motion models."""

import logging

from comfy.patcher_extension import PatcherInjection, WrappersMP

from ..motion_models.network.injection import MotionModelMismatch, MotionSlot, check_fit, eject, inject, run_slot
from . import advanced_controlnet, run
from .motion.applied import MotionModels
from .run import MODEL_KEY
from .sample_settings import SampleSettings
from .schedules import beta_schedules
from .windows.context import Contexts

TIMESTEP_EMBED_PATCH = "forward_timestep_embed_patch"

WRAPPERS = (
    WrappersMP.OUTER_SAMPLE,
    WrappersMP.PREPARE_SAMPLING,
    WrappersMP.CALC_COND_BATCH,
    WrappersMP.DIFFUSION_MODEL,
)

# The host's classes of Stable Diffusion checkpoints, by the family that motion models call them.
CHECKPOINT_FAMILIES = {
    "BaseModel": "SD1.5",
    "SD15_instructpix2pix": "SD1.5",
    "SDXL": "SDXL",
    "SDXL_instructpix2pix": "SDXL",
}


def animate(
    model,
    motion_models: MotionModels,
    beta_schedule: str,
    contexts: Contexts = (),
    settings: SampleSettings | None = None,
    *,
    apply_v2_properly: bool = True,
):
    """A clone of ``model`` (a host ModelPatcher) that samples with ``motion_models`` and the given schedule.

    A sigma schedule of the settings takes the place of ``beta_schedule``.
    What an earlier call put on the MODEL is replaced. ``apply_v2_properly=False`` gives v2 models joint group norm as
    v1 models have it: they were not trained so, but old workflows look that way. Raises MotionModelMismatch if a
    motion model does not fit.
    """
    settings = settings or SampleSettings()
    for motion_model in motion_models:
        _check_family(motion_model.spec, model.model)
        check_fit(motion_model.spec, model.model.diffusion_model)
    if settings.sigma_schedule is None and beta_schedule == beta_schedules.AUTOSELECT:
        beta_schedule = motion_models[0].spec.beta_schedule if motion_models else beta_schedules.USE_EXISTING

    if settings.custom_cfg:
        logging.info("[AnimateDiff] The custom CFG of the sample settings takes the place of the sampler's cfg.")
    model = model.clone()
    if settings.sigma_schedule is not None:
        model.add_object_patch("model_sampling", settings.sigma_schedule.for_model())
    elif beta_schedule != beta_schedules.USE_EXISTING:
        sampling = beta_schedules.model_sampling(beta_schedule, model.model.model_type)
        model.add_object_patch("model_sampling", sampling)

    _remove(model)
    model.set_attachments(MODEL_KEY, run.Animation(motion_models, contexts, settings))
    model.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, MODEL_KEY, run.outer_sample)
    advanced_controlnet.attach(model, contexts)
    model.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, MODEL_KEY, run.calc_cond_batch)
    if contexts:
        model.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, MODEL_KEY, run.prepare_sampling)
    if motion_models:
        model.set_additional_models(MODEL_KEY, [motion_model.patcher.clone() for motion_model in motion_models])
        model.set_injections(MODEL_KEY, [PatcherInjection(_inject, _eject)])
        model.set_model_patch((MotionSlot, run_slot), TIMESTEP_EMBED_PATCH)
        spec = motion_models[0].spec
        if spec.joint_group_norm or (spec.version == "v2" and not apply_v2_properly):
            model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, MODEL_KEY, run.diffusion_model)
    return model


def unload(model):
    """A clone of ``model`` without what ``animate`` put on it. The noise schedule stays, as do all other patches."""
    model = model.clone()
    _remove(model)
    model.remove_attachments(MODEL_KEY)
    return model


def _remove(model) -> None:
    """Take from ``model`` what an earlier call put on it."""
    for kind in WRAPPERS:
        model.remove_wrappers_with_key(kind, MODEL_KEY)
    model.remove_additional_models(MODEL_KEY)
    model.remove_injections(MODEL_KEY)
    advanced_controlnet.detach(model)
    patches = model.model_options["transformer_options"].get("patches", {})
    others = [patch for patch in patches.get(TIMESTEP_EMBED_PATCH, []) if patch[0] is not MotionSlot]
    if TIMESTEP_EMBED_PATCH in patches:
        patches[TIMESTEP_EMBED_PATCH] = others


def _inject(patcher) -> None:
    # looked up on the patcher at hand: clones and copies for other devices carry networks of their own
    models = [motion_model.model for motion_model in patcher.get_additional_models_with_key(MODEL_KEY)]
    inject(patcher.model.diffusion_model, models)


def _eject(patcher) -> None:
    eject(patcher.model.diffusion_model)


def _check_family(spec, base_model) -> None:
    checkpoint = CHECKPOINT_FAMILIES.get(type(base_model).__name__)
    if spec.family != "custom" and checkpoint is not None and checkpoint != spec.family:
        raise MotionModelMismatch(
            f"The motion model '{spec.name}' is for {spec.family} checkpoints, but the checkpoint is {checkpoint}. "
            f"Load a motion model for {checkpoint}, or a checkpoint for {spec.family}."
        )
