"""Training MotionLoRAs: a motion from a few dozen clips (AnimateDiff, arXiv 2307.04725, section 4.3)."""

from dataclasses import replace
from types import MappingProxyType

from ..host import training as host
from ..lora.motion_lora import MotionLora
from ..motion_models.call import LowRank
from ..sampling.motion import inputs_at_keyframes
from ..sampling.run import MODEL_KEY, Animation
from .clips import Clips
from .low_rank import new_pairs, parameters
from .trainer import TrainingFailed, TrainingRecord, TrainingSettings, train
from .unet import TrainingUNet


def train_motion_lora(
    model,
    latents: list[dict],
    positive: list[host.Conditioning],
    negative: host.Conditioning,
    settings: TrainingSettings,
    rank: int,
    alpha: float,
    resume: MotionLora | None = None,
    node_id: str | None = None,
) -> tuple[MotionLora, TrainingRecord]:
    """Train a MotionLoRA for the motion model of ``model``, which is left as it is.

    ``latents`` are the host's LATENTs, one per clip, ``positive`` one CONDITIONING for all or one for each,
    ``negative`` that of the empty text. ``resume`` continues a MotionLoRA; its rank wins over ``rank``.

    Raises TrainingDataError and TrainingFailed before anything is computed if the inputs cannot be trained on.
    """
    motion_models = (model.get_attachment(MODEL_KEY) or Animation()).motion_models
    if len(motion_models) != 1:
        what = "has no motion model" if not motion_models else f"has {len(motion_models)} motion models"
        raise TrainingFailed(
            f"A MotionLoRA is trained for one motion model, but the MODEL {what}. Connect the MODEL of Use Evolved Sampling "
            "(or of an AnimateDiff Loader) with exactly one."
        )
    (applied,) = motion_models
    if settings.frames > applied.spec.max_frames:
        raise TrainingFailed(
            f"frames is {settings.frames}, but the motion model '{applied.spec.name}' handles at most "
            f"{applied.spec.max_frames} frames. Lower frames."
        )
    clips = Clips.of(latents, len(positive), settings.frames)
    if resume is not None:
        rank = resume.rank

    host.free_memory()
    device = host.training_device()
    dtype = host.compute_dtype(settings.precision, device)
    (patcher,) = model.get_additional_models_with_key(MODEL_KEY)
    motion_model = host.trainable_copy(patcher, dtype, device)
    unet = TrainingUNet(model, [motion_model], dtype, settings.checkpointing)
    unet.prepare([*positive, negative], clips.size, settings.frames)
    pairs = new_pairs(dict(motion_model.projections()), rank, alpha, settings.seed, device)
    if resume is not None:
        _resume(pairs, resume, applied.spec.name)

    inputs = replace(
        inputs_at_keyframes(applied.settings, applied.spec, settings.frames)[0],
        low_rank={name: (LowRank(pair.down, pair.up, pair.scale),) for name, pair in pairs.items()},
    )
    record = train(unet, parameters(pairs), clips, settings, lambda: (inputs,), node_id)
    steps = record.steps + int(resume.metadata.get("animatediff.steps", 0) if resume else 0)
    metadata = {
        "animatediff.base": applied.spec.name,
        "animatediff.steps": str(steps),
        "animatediff.alpha": str(alpha),
        "animatediff.objective": settings.objective,
    }
    result = {name: pair.result() for name, pair in pairs.items()}
    return MotionLora("trained", MappingProxyType(result), MappingProxyType(metadata)), record


def _resume(pairs, resume: MotionLora, motion_model: str) -> None:
    other = sorted(resume.pairs.keys() ^ pairs.keys())
    if other:
        raise TrainingFailed(
            f"The MotionLoRA '{resume.name}' cannot be resumed on the motion model '{motion_model}': {len(other)} layers are "
            f"in one of the two only ({other[0]}, …). Resume on the motion model it was trained for."
        )
    for name, pair in pairs.items():
        down, up = resume.pairs[name]
        if down.shape != pair.down.shape or up.shape != pair.up.shape:
            raise TrainingFailed(
                f"The MotionLoRA '{resume.name}' cannot be resumed: {name} is {tuple(down.shape)} and {tuple(up.shape)}, not "
                f"{tuple(pair.down.shape)} and {tuple(pair.up.shape)}. All its layers need one rank, and the motion model must "
                "be of the family it was trained for."
            )
        pair.resume((down, up))
