"""Training MotionLoRAs: a motion from a few dozen clips (AnimateDiff, arXiv 2307.04725, section 4.3)."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from torch import nn

from ..host import training as host
from ..lora.motion_lora import MotionLora
from ..motion_models.network.call import LowRank
from ..sampling.animate import feature_of
from ..sampling.motion.applied import inputs_at_keyframes
from ..sampling.motion.feature import Motion
from ..sampling.run import MODEL_KEY
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
    motion_models = (feature_of(model, Motion) or Motion()).motion_models
    if len(motion_models) != 1:
        what = "has no motion model" if not motion_models else f"has {len(motion_models)} motion models"
        raise TrainingFailed(
            f"A MotionLoRA is trained for one motion model, but the MODEL {what}. Connect the MODEL of Use Evolved Sampling "
            "(or of an AnimateDiff Loader) with exactly one."
        )
    (applied,) = motion_models
    if applied.settings.adapters:
        raise TrainingFailed(
            f"A MotionLoRA is trained without a picture to start from and without a camera, but the motion model "
            f"'{applied.spec.name}' is applied with one. Apply it with Apply AnimateDiff Model for the training; the MotionLoRA "
            "then serves with them, too."
        )
    if settings.frames > applied.spec.max_frames:
        raise TrainingFailed(
            f"frames is {settings.frames}, but the motion model '{applied.spec.name}' handles at most "
            f"{applied.spec.max_frames} frames. Lower frames."
        )
    clips = Clips.of(latents, len(positive), settings.frames)
    (patcher,) = model.get_additional_models_with_key(MODEL_KEY)
    if resume is not None:
        rank = resume.rank
        _check_resume(dict(patcher.model.projections()), resume, applied.spec.name)

    host.free_memory()
    device = host.training_device()
    dtype = host.compute_dtype(settings.precision, device)
    motion_model = host.trainable_copy(patcher, dtype, device)
    unet = TrainingUNet(model, [motion_model], dtype, settings.checkpointing)
    unet.prepare([*positive, negative], clips.of_size, settings.frames)
    pairs = new_pairs(dict(motion_model.projections()), rank, alpha, settings.seed, device)
    if resume is not None:
        for name, pair in pairs.items():
            pair.resume(resume.pairs[name])

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


def _check_resume(layers: Mapping[str, nn.Linear], resume: MotionLora, motion_model: str) -> None:
    """Raise TrainingFailed unless ``resume`` has one pair, of its rank, for each of the motion model's ``layers``."""
    other = sorted(resume.pairs.keys() ^ layers.keys())
    if other:
        raise TrainingFailed(
            f"The MotionLoRA '{resume.name}' cannot be resumed on the motion model '{motion_model}': {len(other)} layers are "
            f"in one of the two only ({other[0]}, …). Resume on the motion model it was trained for."
        )
    for name, layer in layers.items():
        found = tuple(tuple(half.shape) for half in resume.pairs[name])
        wanted = (resume.rank, layer.in_features), (layer.out_features, resume.rank)
        if found != wanted:
            raise TrainingFailed(
                f"The MotionLoRA '{resume.name}' cannot be resumed: {name} is {found[0]} and {found[1]}, not {wanted[0]} and "
                f"{wanted[1]}. All its layers need one rank, and the motion model must be of the family it was trained for."
            )
