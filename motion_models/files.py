"""Motion model files: reading, naming what a wrong file is, one set of tensor names, the specification.

Published layouts (tensor names inside the file):

* AnimateDiff v1/v2/v3, SDXL beta, AnimateLCM, Lightning, most fine-tunes:
  ``down_blocks.0.motion_modules.0.temporal_transformer.…`` (the names used in the rest of this package)
* HotshotXL: ``down_blocks.0.temporal_attentions.0.…``
* diffusers MotionAdapter: ``down_blocks.0.motion_modules.0.transformer_blocks.0.attn1.…``

each possibly below ``state_dict`` and with prefixes such as ``module.`` left by training code.
"""

import os
import pickle
import re
from collections import defaultdict

import comfy.utils
import safetensors
import torch

from ..host.patcher import make_patcher, weight_dtype
from .spec import MotionModelSpec
from .temporal import MotionModel
from .wrong_files import what_is_it

Tensors = dict[str, torch.Tensor]

# The published models all have 8 heads, and tensor shapes do not tell; ours of other widths say so in their metadata.
PUBLISHED_HEADS = 8
HEADS_METADATA = "animatediff.heads"
ANIMATELCM_FRAMES = 64

PREFIX = re.compile(r"^(?:(?:module|model|unet|diffusion_model|motion_adapter|_orig_mod)\.)+(?=(?:down|mid|up)_block)")
WRAPPERS = ("state_dict", "module", "model", "motion_module")
MODULE_KEY = re.compile(r"^(?:(down|up)_blocks\.(\d+)|(mid)_block)\.motion_modules\.(\d+)\.temporal_transformer\.")
DIFFUSERS_NAMES = (
    (".attn1.", ".attention_blocks.0."),
    (".attn2.", ".attention_blocks.1."),
    (".norm1.", ".norms.0."),
    (".norm2.", ".norms.1."),
    (".norm3.", ".ff_norm."),
)


class MotionModelFileError(ValueError):
    """A file that is no usable motion model; the message says what it is and what to do."""


def load_motion_model(path: str, disable_dynamic: bool = False):
    """Load a motion model file as a model patcher of the host. ``patcher.model`` is a MotionModel with its spec.

    Raises MotionModelFileError for anything but a complete motion model. Pickles are never executed.
    """
    name = os.path.splitext(os.path.basename(path))[0]
    spec, tensors = interpret(name, *read_tensors(path))
    dtype = weight_dtype()
    model = MotionModel(spec, dtype)
    # Cast here, not by the layers: some of the host's layers adopt the dtype of what they are given.
    tensors = {key: value.to(torch.float32 if key.endswith(".pe") else dtype) for key, value in tensors.items()}
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    # a layout without tables uses the generated ones
    missing = [key for key in missing if not key.endswith(".pe")]
    if missing or unexpected:
        raise MotionModelFileError(_incomplete(name, missing, unexpected))
    model.eval().requires_grad_(False)
    return make_patcher(model, (load_motion_model, (path,)), disable_dynamic)


def read_tensors(path: str) -> tuple[Tensors, dict[str, str]]:
    """All tensors of a file by name, and its metadata."""
    name = os.path.basename(path)
    if os.path.getsize(path) == 0:
        raise MotionModelFileError(f"'{name}' is empty (0 bytes). Download it again.")
    try:
        content, metadata = comfy.utils.load_torch_file(path, safe_load=True, return_metadata=True)
    except (safetensors.SafetensorError, ValueError, EOFError, RuntimeError) as error:
        raise MotionModelFileError(
            f"'{name}' cannot be read: it is damaged, cut off, or not a {os.path.splitext(name)[1]} file. "
            f"Download it again and compare its size. ({str(error).splitlines()[0]})"
        ) from error
    except (pickle.UnpicklingError, AttributeError, ImportError) as error:
        raise MotionModelFileError(
            f"'{name}' was not loaded: it holds Python objects other than tensors, which could run code on this "
            "machine, or it is damaged. Use a .safetensors version of it."
        ) from error
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict):
        raise MotionModelFileError(f"'{name}' holds a {type(content).__name__}, not named tensors. Use another file.")
    tensors = {key: value for key, value in content.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        raise MotionModelFileError(f"'{name}' holds no tensors at all. Download it again or use another file.")
    return tensors, metadata or {}


def interpret(name: str, tensors: Tensors, metadata: dict[str, str]) -> tuple[MotionModelSpec, Tensors]:
    """Recognise the layout of a file's tensors; return the specification and the tensors under our names."""
    tensors = {PREFIX.sub("", key): value for key, value in tensors.items()}
    other = what_is_it(tensors)
    if other is not None:
        raise MotionModelFileError(f"'{name}' is no motion model. {other}")
    layout = _layout(name, tensors)
    tensors = {key: value for key, value in _our_names(tensors).items() if MODULE_KEY.match(key)}
    return _spec(name, layout, tensors, metadata), tensors


def _layout(name: str, tensors: Tensors) -> str:
    if "FancyVideo" in tensors:
        return "FancyVideo"
    if {"conv_in.weight", "conv_in.bias"} <= tensors.keys() and not any(".resnets." in key for key in tensors):
        return "PIA"
    if any(key.endswith("pos_encoder.positional_encoding") for key in tensors):
        return "HotshotXL"
    tables = {key: value.shape[1] for key, value in tensors.items() if key.endswith(("pos_embed.pe", "pos_encoder.pe"))}
    if not tables:
        return "AnimateLCM"
    # AnimateLCM in diffusers layout carries generated tables, 64 long, or none in the mid block; when both were
    # made alike only its name is left to tell it by.
    if all(key.endswith("pos_embed.pe") for key in tables):
        mid = [key for key in tensors if key.startswith("mid_block.")]
        without_mid_table = mid and not any(key.startswith("mid_block.") for key in tables)
        if without_mid_table or min(tables.values()) == ANIMATELCM_FRAMES or "lcm" in name.lower():
            return "AnimateLCM"
    return "AnimateDiff"


def _our_names(tensors: Tensors) -> Tensors:
    renamed: Tensors = {}
    for key, value in tensors.items():
        key = re.sub(r"\.temporal_attentions\.(\d+)\.", r".motion_modules.\1.temporal_transformer.", key)
        key = key.replace("pos_encoder.positional_encoding", "pos_encoder.pe")
        if re.search(r"\.motion_modules\.\d+\.(?!temporal_transformer)", key):
            key = re.sub(r"\.motion_modules\.(\d+)\.", r".motion_modules.\1.temporal_transformer.", key)
            for theirs, ours in DIFFUSERS_NAMES:
                key = key.replace(theirs, ours)
        if key.endswith(".pos_embed.pe"):
            # diffusers has one table for both attention blocks
            for block in (0, 1):
                renamed[key.replace("pos_embed.pe", f"attention_blocks.{block}.pos_encoder.pe")] = value
        else:
            renamed[key] = value
    return renamed


def _spec(name: str, layout: str, tensors: Tensors, metadata: dict[str, str]) -> MotionModelSpec:
    channels: dict[str, dict[int, dict[int, int]]] = {part: defaultdict(dict) for part in ("down", "mid", "up")}
    for key, value in tensors.items():
        down_or_up, level, mid, module = MODULE_KEY.match(key).groups()
        if key.endswith("temporal_transformer.norm.weight"):
            channels[mid or down_or_up][int(level or 0)][int(module)] = value.shape[0]
    parts = {}
    for part, levels in channels.items():
        parts[part] = tuple(tuple(levels[i][j] for j in sorted(levels[i])) for i in sorted(levels))
        if sorted(levels) != list(range(len(levels))) or any(sorted(m) != list(range(len(m))) for m in levels.values()):
            raise MotionModelFileError(
                f"'{name}' is not complete: of its {part} blocks only levels {sorted(levels)} are there. "
                "Download it again."
            )
    if not any(parts.values()):
        raise MotionModelFileError(_incomplete(name, ["…temporal_transformer.norm.weight"], []))
    tables = [value.shape[1] for key, value in tensors.items() if key.endswith("pos_encoder.pe")]
    max_frames = min(tables) if tables else ANIMATELCM_FRAMES
    every = [c for levels in parts.values() for level in levels for c in level]
    heads = int(metadata.get(HEADS_METADATA, PUBLISHED_HEADS))
    if any(c % heads for c in every):
        raise MotionModelFileError(f"'{name}' has {sorted(set(every))} channels, which {heads} heads do not divide.")
    four_levels = len(parts["down"] or parts["up"]) == 4
    if parts["mid"]:
        version = "v2"
    else:
        version = "v3" if four_levels and tables and max_frames == 32 else "v1"
    return MotionModelSpec(
        name=name,
        layout=layout,
        version=version,
        down=parts["down"],
        mid=parts["mid"][0] if parts["mid"] else (),
        up=parts["up"],
        attention_blocks=1 + max((int(i) for k in tensors for i in re.findall(r"\.attention_blocks\.(\d+)\.", k)), default=0),
        heads=heads,
        max_frames=max_frames,
        parameters=sum(value.numel() for key, value in tensors.items() if not key.endswith(".pe")),
    )


def _incomplete(name: str, missing: list[str], unexpected: list[str]) -> str:
    def some(keys: list[str]) -> str:
        return ", ".join(keys[:8]) + (f" and {len(keys) - 8} more" if len(keys) > 8 else "")

    found = []
    if missing:
        found.append(f"{len(missing)} tensors are missing ({some(missing)})")
    if unexpected:
        found.append(f"{len(unexpected)} tensors are unknown ({some(unexpected)})")
    return (
        f"'{name}' looks like a motion model but {' and '.join(found)}. The file is damaged or of a kind that this "
        "version does not know: download it again, or report the file with this message."
    )
