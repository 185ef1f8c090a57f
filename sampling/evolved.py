"""What the inputs of *Use Evolved Sampling* mean: the features that they put on a MODEL, outermost first."""

from functools import partial

from ..motion_models.network.injection import MotionModelMismatch, check_fit
from ..motion_models.spec import MotionModelSpec
from .animate import with_features
from .compiled import Compiled
from .feature import Feature
from .guidance.custom_cfg import Guidance
from .image_injection.feature import ImageInjection
from .motion.applied import MotionModels
from .motion.feature import Motion
from .noise.start import StartNoise
from .preview import ClipPreview
from .prompts_apart import PromptsApart
from .sample_settings import SampleSettings
from .schedules import beta_schedules
from .schedules.noise_schedule import NoiseSchedule
from .windows.context import Contexts, noise_window
from .windows.in_run import Windows

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

    A sigma schedule of the settings takes the place of ``beta_schedule``. What an earlier call put on the MODEL is
    replaced. ``apply_v2_properly=False`` gives v2 models joint group norm as v1 models have it: they were not trained so,
    but old workflows look that way. Raises MotionModelMismatch if a motion model does not fit.
    """
    settings = settings or SampleSettings()
    for motion_model in motion_models:
        _check_family(motion_model.spec, model.model)
        check_fit(motion_model.spec, model.model.diffusion_model)
    features: list[Feature] = [
        Compiled(),
        ClipPreview(),
        _noise_schedule(model, motion_models, beta_schedule, settings),
        StartNoise(settings.noise, settings.iterations, partial(noise_window, contexts)),
    ]
    if settings.custom_cfg:
        features.append(Guidance(settings.custom_cfg))
    features.append(Windows(contexts))
    features.append(Motion(motion_models, contexts, _joint_group_norm(motion_models, apply_v2_properly)))
    features.append(PromptsApart())
    if settings.pictures:
        features.append(ImageInjection(settings.pictures))
    if settings.ancestral is not None:
        features.append(settings.ancestral)
    return with_features(model, features)


def _joint_group_norm(motion_models: MotionModels, apply_v2_properly: bool) -> bool:
    if not motion_models:
        return False
    if any(adapter.joint_group_norm for adapter in motion_models[0].settings.adapters):
        return True
    spec = _leading(motion_models)
    return spec.joint_group_norm or (spec.version == "v2" and not apply_v2_properly)


def _leading(motion_models: MotionModels) -> MotionModelSpec:
    """The motion model by which a MODEL is set up: the one applied last, of those that have temporal modules."""
    specs = [motion_model.spec for motion_model in motion_models]
    return next((spec for spec in specs if spec.attention_blocks), specs[0])


def _noise_schedule(model, motion_models: MotionModels, beta_schedule: str, settings: SampleSettings) -> NoiseSchedule:
    if settings.sigma_schedule is not None:
        return NoiseSchedule(settings.sigma_schedule.for_model(), "the sigma schedule of the sample settings")
    chosen = beta_schedule
    if beta_schedule == beta_schedules.AUTOSELECT:
        beta_schedule = _leading(motion_models).beta_schedule if motion_models else beta_schedules.USE_EXISTING
    if beta_schedule == beta_schedules.USE_EXISTING:
        return NoiseSchedule()
    name = f"'{beta_schedule}'" + (f" (beta_schedule '{chosen}')" if chosen != beta_schedule else "")
    return NoiseSchedule(beta_schedules.model_sampling(beta_schedule, model.model.model_type), name)


def _check_family(spec, base_model) -> None:
    checkpoint = CHECKPOINT_FAMILIES.get(type(base_model).__name__)
    if spec.family != "custom" and checkpoint is not None and checkpoint != spec.family:
        raise MotionModelMismatch(
            f"The motion model '{spec.name}' is for {spec.family} checkpoints, but the checkpoint is {checkpoint}. "
            f"Load a motion model for {checkpoint}, or a checkpoint for {spec.family}."
        )
