"""Training MotionLoRAs: a motion from a few dozen clips (AnimateDiff, arXiv 2307.04725, section 4.3)."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from torch import nn

from ..host import folders
from ..host import training as host
from ..lora.motion_lora import MotionLora, save_motion_lora
from ..motion_models.network.call import LowRank
from ..sampling.animate import feature_of
from ..sampling.motion.applied import inputs_at_keyframes
from ..sampling.motion.feature import Motion
from ..sampling.run import MODEL_KEY
from .checkpoints import Checkpoints
from .clips import TrainingData
from .low_rank import new_pairs, parameters, ranks_of
from .record import TrainingRecord
from .settings import TrainingFailed, TrainingSettings
from .trainer import train
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
            f"'{applied.spec.name}' is applied with one. Apply it with AnimateDiff: Apply Model for the training; the MotionLoRA "
            "then serves with them, too."
        )
    if settings.frames > applied.spec.max_frames:
        raise TrainingFailed(
            f"frames is {settings.frames}, but the motion model '{applied.spec.name}' handles at most "
            f"{applied.spec.max_frames} frames. Lower frames."
        )
    data = TrainingData.of(latents, positive, negative, settings)
    (patcher,) = model.get_additional_models_with_key(MODEL_KEY)
    layers = dict(patcher.model.projections())
    ranks = ranks_of(layers, settings.options.ranks)
    if resume is not None:
        rank = resume.rank
        ranks |= _check_resume(
            {name: layers[name] for name in layers if ranks.get(name) != 0}, resume, applied.spec.name
        )
    checkpoints = Checkpoints.of(settings.options.checkpoints, folders.MOTION_LORAS)

    host.free_memory()
    device = host.training_device()
    dtype = host.compute_dtype(settings.precision, device)
    motion_model = host.trainable_copy(patcher, dtype, device)
    unet = TrainingUNet(model, [motion_model], dtype, settings.checkpointing)
    unet.prepare(data.conditionings, data.sizes, settings.frames)
    layers = dict(motion_model.projections())
    pairs = new_pairs(layers, rank, alpha, settings.seed, device, ranks, settings.options.rslora)
    if resume is not None:
        for name, pair in pairs.items():
            pair.resume(resume.pairs[name])

    inputs = replace(
        inputs_at_keyframes(applied.settings, applied.spec, settings.frames)[0],
        low_rank={name: (LowRank(pair.down, pair.up, pair.scale),) for name, pair in pairs.items()},
    )
    before = int(resume.metadata.get("animatediff.steps", 0) if resume else 0)
    notes = {
        "animatediff.base": applied.spec.name,
        "animatediff.alpha": str(alpha),
        "animatediff.objective": settings.objective,
    }

    def trained(steps: int) -> MotionLora:
        result = {name: pair.result() for name, pair in pairs.items()}
        metadata = {**notes, "animatediff.steps": str(steps + before)}
        return MotionLora("trained", MappingProxyType(result), MappingProxyType(metadata))

    def save(path: str, steps: int) -> None:
        save_motion_lora(trained(steps), path)

    trained_pairs = parameters(pairs)
    with train(unet, trained_pairs, data, settings, save, (inputs,), checkpoints, node_id, alpha, True) as record:
        return trained(record.steps), record


def _check_resume(layers: Mapping[str, nn.Linear], resume: MotionLora, motion_model: str) -> dict[str, int]:
    """The rank of each layer of ``resume``. Raise TrainingFailed unless it has one pair for each of ``layers``."""
    other = sorted(resume.pairs.keys() ^ layers.keys())
    if other:
        raise TrainingFailed(
            f"The MotionLoRA '{resume.name}' cannot be resumed on the motion model '{motion_model}': {len(other)} layers are "
            f"in one of the two only ({other[0]}, …). Resume on the motion model it was trained for."
        )
    ranks = {name: down.shape[0] for name, (down, _) in resume.pairs.items()}
    for name, layer in layers.items():
        found = tuple(tuple(half.shape) for half in resume.pairs[name])
        wanted = (ranks[name], layer.in_features), (layer.out_features, ranks[name])
        if found != wanted:
            raise TrainingFailed(
                f"The MotionLoRA '{resume.name}' cannot be resumed: {name} is {found[0]} and {found[1]}, not {wanted[0]} and "
                f"{wanted[1]}. Resume on a motion model of the family that it was trained for."
            )
    return ranks
