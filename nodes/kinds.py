"""What goes over the sockets: for messages about inputs that hold nothing, or something else."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real

import numpy as np
import torch
from comfy_api.latest import io

from ..lora.motion_lora import AppliedMotionLora
from ..motion_models.adapters import camera
from ..motion_models.adapters.other_cameras import WAN_CHANNELS, WAN_TOGETHER
from ..motion_models.files.adjust import Adjustments, PositionAdjustment, WeightAdjustment
from ..motion_models.network.temporal import MotionModel
from ..sampling.adapters.likeness import PiaInput
from ..sampling.context_extras.context_ref import RefKeyframe, Tune
from ..sampling.context_extras.extras import ContextExtras
from ..sampling.context_extras.modes import Mode
from ..sampling.context_extras.naive_reuse import ReuseKeyframe
from ..sampling.guidance.custom_cfg import CfgKeyframe, Extra
from ..sampling.image_injection.picture import InjectedPicture, Place
from ..sampling.motion.applied import AppliedMotionModel, Keyframe
from ..sampling.noise.ancestral import AncestralOptions
from ..sampling.noise.initial import NoiseLayer
from ..sampling.noise.iterations import Iterations
from ..sampling.paths.path import MotionPath
from ..sampling.sample_settings import SampleSettings
from ..sampling.schedules.sigma_schedules import SigmaSchedule
from ..sampling.strength.per_block import Block, PerBlock
from ..sampling.windows.context import Context, ViewOptions
from ..training.settings import TrainingOptions
from .sockets import FloatOrMore, IntOrMore, OpenCombo

Test = Callable[[object], bool]


@dataclass(frozen=True)
class Kind:
    """What a type of socket carries: its ``name``, what to connect to get it, and how such a thing is told."""

    name: str
    source: str
    fits: Test | None = None


def _one(of: type) -> Test:
    return lambda value: isinstance(value, of)


def _chain(of: type) -> Test:
    return lambda value: isinstance(value, tuple) and all(isinstance(one, of) for one in value)


def _motion_model(value: object) -> bool:
    return isinstance(getattr(value, "model", None), MotionModel)


def _poses(value: object) -> bool:
    return isinstance(value, (list, tuple)) and all(
        isinstance(pose, (list, tuple)) and len(pose) == camera.NUMBERS for pose in value
    )


def _model(value: object) -> bool:
    # not by its class: other packs have their own
    return hasattr(value, "clone") and hasattr(value, "model_options") and not _motion_model(value)


def _with(*methods: str) -> Test:
    return lambda value: all(hasattr(value, name) for name in methods)


def _timesteps(value: object) -> bool:
    return (
        isinstance(value, tuple) and len(value) == 2 and all(isinstance(one, Real) and 0 <= one <= 1 for one in value)
    )


def _latents(value: object) -> bool:
    # those of models for video and sound together are no tensor
    return isinstance(value, dict) and hasattr(value.get("samples"), "shape")


def _state_dict(value: object) -> bool:
    return isinstance(value, dict) and "samples" not in value and all(map(_one(torch.Tensor), value.values()))


def _conditioning(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(entry, (list, tuple)) and len(entry) == 2 and isinstance(entry[1], dict) for entry in value
    )


def _tensor(*dimensions: int) -> Test:
    return lambda value: isinstance(value, torch.Tensor) and value.ndim in dimensions


def _mask(value: object) -> bool:
    # (height, width), one for each frame or not, and as some packs have it (frames, 1, height, width)
    return _tensor(2, 3)(value) or (_tensor(4)(value) and value.shape[1] == 1)


def _camera(value: object) -> bool:
    return isinstance(value, dict) and "position" in value


def _rays(value: object) -> bool:
    return _tensor(5)(value) and value.shape[1] == WAN_CHANNELS * WAN_TOGETHER


def _tracks(value: object) -> bool:
    return isinstance(value, dict) and "track_path" in value


def _multival(value: object) -> bool:
    return isinstance(value, Real) or _tensor(3)(value)


def _numbers(value: object) -> bool:
    return isinstance(value, Real) or (isinstance(value, list) and all(map(_one(Real), value)))


def _number(value: object) -> bool:
    return isinstance(value, Real) or _tensor(0)(value)


KINDS = {
    "MOTION_MODEL_ADE": Kind("a motion model", "AnimateDiff: Load Model", _motion_model),
    "M_MODELS": Kind("applied motion models", "AnimateDiff: Apply Model", _chain(AppliedMotionModel)),
    "MOTION_LORA": Kind("MotionLoRAs", "Load AnimateDiff LoRA", _chain(AppliedMotionLora)),
    "AD_KEYFRAMES": Kind("keyframes", "AnimateDiff Keyframe", _chain(Keyframe)),
    "AD_BLOCK": Kind("the settings of a block", "AD Block", _one(Block)),
    "PER_BLOCK": Kind("per block settings", "AD Per Block", _one(PerBlock)),
    "AD_SETTINGS": Kind("AnimateDiff settings", "AnimateDiff Settings", _one(Adjustments)),
    "PE_ADJUST": Kind("position adjustments", "Adjust PE (Sweetspot)", _chain(PositionAdjustment)),
    "WEIGHT_ADJUST": Kind("weight adjustments", "Adjust Weight (All, Mult)", _chain(WeightAdjustment)),
    "CONTEXT_OPTIONS": Kind("context options", "Context Options: Standard Static", _chain(Context)),
    "CONTEXT_EXTRAS": Kind("context extras", "Context Extras: ContextRef", _one(ContextExtras)),
    "CONTEXTREF_MODE": Kind("a mode of ContextRef", "ContextRef Mode: First", _one(Mode)),
    "CONTEXTREF_TUNE": Kind("a tune of ContextRef", "ContextRef Tune: Attn", _one(Tune)),
    "CONTEXTREF_KEYFRAME": Kind("keyframes of ContextRef", "ContextRef Keyframe", _chain(RefKeyframe)),
    "NAIVEREUSE_KEYFRAME": Kind("keyframes of NaiveReuse", "NaiveReuse Keyframe", _chain(ReuseKeyframe)),
    "VIEW_OPTS": Kind("view options", "View Options: Standard Static", _one(ViewOptions)),
    "SAMPLE_SETTINGS": Kind("sample settings", "Sample Settings", _one(SampleSettings)),
    "NOISE_LAYERS": Kind("noise layers", "Noise Layer (Add)", _chain(NoiseLayer)),
    "ITERATION_OPTS": Kind("iteration options", "Iteration Options: Default", _one(Iterations)),
    "ANCESTRAL_OPTS": Kind("ancestral options", "Ancestral Options", _one(AncestralOptions)),
    "CUSTOM_CFG": Kind("a custom CFG", "Custom CFG", _chain(CfgKeyframe)),
    "CFG_EXTRAS": Kind("CFG extras", "CFG Extras: PAG", _chain(Extra)),
    "IMAGE_INJECT": Kind("injected pictures", "Image Injection", _chain(InjectedPicture)),
    "IMAGE_INJECT_OPTIONS": Kind("the place of a picture", "Image Injection Options", _one(Place)),
    "SIGMA_SCHEDULE": Kind("a sigma schedule", "Create Sigma Schedule", _one(SigmaSchedule)),
    "VALUES_REPLACE": Kind("values to replace", "Add Values Replace", _chain(tuple)),
    "CAMERACTRL_POSES": Kind("camera poses", "Create CameraCtrl Poses", _poses),
    "PIA_INPUT": Kind("an input of PIA", "PIA Input (Paper Presets)", _one(PiaInput)),
    "LOAD3D_CAMERA": Kind("a camera of a 3D viewer", "camera_info of Load 3D", _camera),
    "WAN_CAMERA_EMBEDDING": Kind("the rays of a camera", "WanCameraEmbedding", _rays),
    "MOTION_PATH": Kind("a motion path", "Motion Path", _one(MotionPath)),
    "TRACKS": Kind("tracks", "ComfyUI's Generate Video Tracks", _tracks),
    "MULTIVAL": Kind("a multival", "Multival", _multival),
    "FLOATS": Kind("numbers", "Value Scheduling", _numbers),
    "AD_TRAINING_OPTIONS": Kind("training options", "Training Options", _one(TrainingOptions)),
    "LORA_MODEL": Kind("a trained LoRA", "Train Domain Adapter, or ComfyUI's Train LoRA", _state_dict),
    # the host's
    "MODEL": Kind("a model", "a model, such as that of Load Checkpoint", _model),
    "CLIP": Kind(
        "a CLIP",
        "a CLIP, such as that of Load Checkpoint (a file without a text encoder gives none)",
        _with("tokenize", "encode_from_tokens"),
    ),
    "HOOKS": Kind("LoRA hooks", "Create Hook LoRA", _with("hooks", "clone_and_combine")),
    "HOOK_KEYFRAMES": Kind("keyframes of hooks", "Create Hook Keyframe", _with("keyframes", "initialize_timesteps")),
    "TIMESTEPS_RANGE": Kind("a part of the sampling schedule", "Timesteps Range", _timesteps),
    "CLIP_VISION": Kind("a CLIP vision model", "Load CLIP Vision", _with("encode_image")),
    "VAE": Kind("a VAE", "a VAE, such as that of Load Checkpoint or Load VAE", _with("encode", "decode")),
    "CONTROL_NET": Kind(
        "a ControlNet", "a ControlNet, such as that of Load SparseCtrl Model", _with("set_cond_hint", "copy")
    ),
    "CONDITIONING": Kind("a conditioning", "CLIP Text Encode (Prompt), or Prompt Scheduling", _conditioning),
    "LATENT": Kind("latents", "latents, such as those of Empty Latent Image or VAE Encode", _latents),
    "IMAGE": Kind("pictures", "pictures, such as those of VAE Decode or Load Image", _tensor(4)),
    "MASK": Kind("a mask", "a mask, such as that of Load Image (as Mask)", _mask),
    "SIGMAS": Kind("sigmas", "BasicScheduler, or another node that gives sigmas", _tensor(1)),
    "INT": Kind("a whole number", "a whole number, or disconnect it and type one", _number),
    "FLOAT": Kind("a number", "a number, or disconnect it and type one", _number),
    "STRING": Kind("a text", "a text, or disconnect it and type one", _one(str)),
    "BOOLEAN": Kind("yes or no", "yes or no (BOOLEAN), or disconnect it and choose one", _one(Real)),
    "COMBO": Kind("one of its choices", "one of its choices, or disconnect it and choose one", _one(str)),
}
MOST_CHOICES = 20  # in a message
# Things that are told by what they are made of, not by what they may be used for.
PLAIN = {
    torch.Tensor: lambda value: f"a tensor of the shape {tuple(value.shape)}",
    bool: lambda value: "yes or no",
    str: lambda value: "a text",
    Real: lambda value: f"the number {value}",
    list: lambda value: f"a list of {len(value)}",
}


def kinds(entry: io.Input) -> list[Kind]:
    """Of each type that the input ``entry`` takes, of those that are known."""
    return [KINDS[name] for name in str(entry.get_io_type()).split(",") if name in KINDS]


def source(entry: io.Input) -> str:
    """What to connect to the input ``entry``."""
    return ", or ".join(kind.source for kind in kinds(entry)) or f"a node that gives {entry.get_io_type()}"


def _takes_lists(entry: io.Input) -> bool:
    return isinstance(entry, (FloatOrMore, IntOrMore)) or str(entry.get_io_type()) == "FLOATS"


def plain(entry: io.Input, value: object) -> object:
    """``value``; but a list of numbers where other packs hand on an array, a tensor or a range of them."""
    if _takes_lists(entry):
        if isinstance(value, (torch.Tensor, np.ndarray)) and value.ndim <= 2:
            return value.flatten().tolist()
        if isinstance(value, Sequence) and not isinstance(value, str):
            return list(value)
    return value


def problem(entry: io.Input, value: object) -> str | None:
    """Why ``value`` cannot be what the input ``entry`` gets; None if it can."""
    io_type, allowed = str(entry.get_io_type()), kinds(entry)
    if not allowed or any(kind.fits is None for kind in allowed):
        return None
    if _takes_lists(entry) and _numbers(value):
        return (
            None if isinstance(value, Real) or len(value) else "got an empty list in place of a number for each frame"
        )
    names = ", or ".join(kind.name for kind in allowed)
    if not any(kind.fits(value) for kind in allowed if kind.fits):
        return f"got {_described(value)} in place of {names}"
    # the host compares what is typed with the choices, not what is linked
    choices = entry.options if isinstance(entry, io.Combo.Input) and not isinstance(entry, OpenCombo) else None
    if choices and value not in choices:
        shown = ", ".join(choices[:MOST_CHOICES]) + (", …" if len(choices) > MOST_CHOICES else "")
        return f"got '{value}', which is none of its choices: {shown}"
    content = value["samples"] if io_type == "LATENT" else value
    if isinstance(content, torch.Tensor) and not content.numel():
        return f"got an empty tensor of the shape {tuple(content.shape)} in place of {names}"
    if io_type == "CONDITIONING" and not content:
        return f"got an empty list in place of {names}"
    return None


def _described(value: object) -> str:
    for of, words in PLAIN.items():
        if isinstance(value, of):
            return words(value)
    if not isinstance(value, (tuple, dict)) or value:
        for kind in KINDS.values():
            if kind.fits is not None and kind.fits(value):
                return kind.name
    return f"a thing of the type {type(value).__name__}"
