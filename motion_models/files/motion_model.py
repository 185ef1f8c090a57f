"""Motion model files: reading, naming what a wrong file is, one set of tensor names, the specification.

Published layouts (tensor names inside the file):

* AnimateDiff v1/v2/v3, SDXL beta, AnimateLCM, Lightning, most fine-tunes:
  ``down_blocks.0.motion_modules.0.temporal_transformer.…`` (the names used in the rest of this package)
* HotshotXL: ``down_blocks.0.temporal_attentions.0.…``
* diffusers MotionAdapter: ``down_blocks.0.motion_modules.0.transformer_blocks.0.attn1.…``

each possibly below ``state_dict`` and with prefixes such as ``module.`` left by training code.
"""

import logging
import os
import pickle
import re
from collections import defaultdict

import comfy.utils
import torch

from ...host.patcher import make_patcher, plain_state_dict, weight_dtype
from ..network.temporal import NORM_GROUPS, MotionModel
from ..spec import MotionModelSpec
from .adjust import Adjustments
from .saving import METADATA_PREFIX, save_tensors
from .wrong_files import what_is_it

Tensors = dict[str, torch.Tensor]

# The published models all have 8 heads, and tensor shapes do not tell; ours of other widths say so in their metadata.
PUBLISHED_HEADS = 8
HEADS_METADATA = f"{METADATA_PREFIX}heads"
# What a file cannot tell by its tensors when a module has other levels or no mid block.
VERSION_METADATA = f"{METADATA_PREFIX}version"
VERSIONS = ("v1", "v2", "v3")
ANIMATELCM_FRAMES = 64
FANCY_VIDEO = "FancyVideo"  # both a layout and the entry of a file that marks it

PREFIX = re.compile(
    r"^(?:(?:state_dict|module|model|unet|diffusion_model|motion_adapter|motion_module|_orig_mod)\.)+"
    r"(?=(?:down|mid|up)_block)"
)
BLOCKS = {"down": "down_blocks.{}", "mid": "mid_block", "up": "up_blocks.{}"}
MODULE_KEY = re.compile(r"^(?:(down|up)_blocks\.(\d+)|(mid)_block)\.motion_modules\.(\d+)\.temporal_transformer\.")
ATTENTION_KEY = re.compile(r"\.attention_blocks\.(\d+)\.")
DIFFUSERS_NAMES = (
    (".attn1.", ".attention_blocks.0."),
    (".attn2.", ".attention_blocks.1."),
    (".norm1.", ".norms.0."),
    (".norm2.", ".norms.1."),
    (".norm3.", ".ff_norm."),
)


class MotionModelFileError(ValueError):
    """A file that is no usable motion model; the message says what it is and what to do."""


def load_motion_model(path: str, adjustments: Adjustments | None = None, disable_dynamic: bool = False):
    """Load a motion model file as a model patcher of the host. ``patcher.model`` is a MotionModel with its spec.

    ``adjustments`` are made to its tensors before. Raises MotionModelFileError for anything but a complete motion
    model. Pickles are never executed.
    """
    name = os.path.splitext(os.path.basename(path))[0]
    spec, tensors = interpret(name, *read_tensors(path))
    _check(spec, tensors)
    if adjustments is not None:
        spec, tensors = adjustments.apply(spec, tensors)
    dtype = weight_dtype()
    model = MotionModel(spec, dtype)
    # Cast here, not by the layers: some of the host's layers adopt the dtype of what they are given.
    tensors = {key: value.to(torch.float32 if key.endswith(".pe") else dtype) for key, value in tensors.items()}
    model.load_state_dict(tensors, strict=False)  # a layout without tables keeps the generated ones
    model.eval().requires_grad_(False)
    logging.info("[AnimateDiff] Loaded %s", spec)
    return make_patcher(model, (load_motion_model, (path, adjustments)), disable_dynamic)


def read_tensors(path: str) -> tuple[Tensors, dict[str, str]]:
    """All tensors of a file by name, and its metadata."""
    name = os.path.basename(path)
    if os.path.getsize(path) == 0:
        raise MotionModelFileError(f"'{name}' is empty (0 bytes). Download it again.")
    try:
        content, metadata = comfy.utils.load_torch_file(path, safe_load=True, return_metadata=True)
    except pickle.UnpicklingError as error:
        raise MotionModelFileError(
            f"'{name}' was not loaded: it holds Python objects other than tensors, which could run code on this "
            "machine, or it is damaged. Use a .safetensors version of it, or download it again."
        ) from error
    except Exception as error:  # whatever a reader stumbles over in a damaged file: KeyError, struct.error, ...
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise MotionModelFileError(
            f"'{name}' cannot be read: it is damaged, cut off, or not a {os.path.splitext(name)[1]} file. "
            f"Download it again and compare its size. ({reason})"
        ) from error
    tensors = _flat(content) if isinstance(content, dict) else {}
    if tensors and FANCY_VIDEO in content:
        tensors[FANCY_VIDEO] = torch.empty(0)  # it need not be a tensor
    if not tensors:
        raise MotionModelFileError(f"'{name}' holds no named tensors. Download it again or use another file.")
    return tensors, metadata or {}


def _flat(content: dict) -> Tensors:
    """The tensors of nested dictionaries, their names joined by dots; everything else is left out."""
    tensors: Tensors = {}
    for key, value in content.items():
        if isinstance(value, torch.Tensor):
            tensors[str(key)] = value
        elif isinstance(value, dict):
            tensors |= {f"{key}.{inner}": tensor for inner, tensor in _flat(value).items()}
    return tensors


def interpret(name: str, tensors: Tensors, metadata: dict[str, str]) -> tuple[MotionModelSpec, Tensors]:
    """Recognise the layout of a file's tensors; return the specification and the tensors under our names."""
    tensors = {PREFIX.sub("", key): value for key, value in tensors.items()}
    other = what_is_it(tensors)
    if other is not None:
        raise MotionModelFileError(f"'{name}' is no motion model. {other}")
    layout = _layout(name, tensors)
    tensors = {key: value for key, value in our_names(tensors).items() if MODULE_KEY.match(key)}
    return _spec(name, layout, tensors, metadata), tensors


def _layout(name: str, tensors: Tensors) -> str:
    if FANCY_VIDEO in tensors:
        return FANCY_VIDEO
    if {"conv_in.weight", "conv_in.bias"} <= tensors.keys() and not any(".resnets." in key for key in tensors):
        return "PIA"
    if any(key.endswith("pos_encoder.positional_encoding") for key in tensors):
        return "HotshotXL"
    tables = _table_lengths(tensors)
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


def _table_lengths(tensors: Tensors) -> dict[str, int]:
    tables = {key: value for key, value in tensors.items() if key.endswith(("pos_embed.pe", "pos_encoder.pe"))}
    return {key: value.shape[1] for key, value in tables.items() if value.ndim == 3}


def our_names(tensors: Tensors) -> Tensors:
    """The tensors of any published layout (without prefixes) under the names of AnimateDiff's."""
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
    for key in tensors:
        match = MODULE_KEY.match(key)
        down_or_up, level, mid, module = match.groups()
        norm = f"{match[0]}norm.weight"
        if norm not in tensors:
            raise MotionModelFileError(_defective(name, missing=[norm]))
        channels[mid or down_or_up][int(level or 0)][int(module)] = tensors[norm].numel()
    gaps = _gaps(channels) if tensors else ["….temporal_transformer.norm.weight"]
    if gaps:
        raise MotionModelFileError(_defective(name, missing=gaps))
    parts = {
        part: tuple(tuple(levels[i][j] for j in sorted(levels[i])) for i in sorted(levels))
        for part, levels in channels.items()
    }
    tables = _table_lengths(tensors).values()
    max_frames = min(tables) if tables else ANIMATELCM_FRAMES
    every = {c for levels in parts.values() for level in levels for c in level}
    heads = str(metadata.get(HEADS_METADATA, PUBLISHED_HEADS))
    if not re.fullmatch(r"[1-9]\d*", heads) or any(c == 0 or c % NORM_GROUPS or c % int(heads) for c in every):
        raise MotionModelFileError(
            f"'{name}' has motion modules of {', '.join(map(str, sorted(every)))} channels in {heads} heads: the channels "
            f"must be a multiple of {NORM_GROUPS} and of the heads."
        )
    four_levels = len(parts["down"] or parts["up"]) == 4
    version = "v2" if parts["mid"] else "v3" if four_levels and tables and max_frames == 32 else "v1"
    version = metadata.get(VERSION_METADATA, version)
    if version not in VERSIONS:
        raise MotionModelFileError(
            f"'{name}' says in its metadata that its {VERSION_METADATA} is '{version}'; it must be one of {', '.join(VERSIONS)}."
        )
    return MotionModelSpec(
        name=name,
        layout=layout,
        version=version,
        down=parts["down"],
        mid=parts["mid"][0] if parts["mid"] else (),
        up=parts["up"],
        attention_blocks=len({i for key in tensors for i in ATTENTION_KEY.findall(key)}) or 1,
        heads=int(heads),
        max_frames=max_frames,
        parameters=sum(value.numel() for key, value in tensors.items() if not key.endswith(".pe")),
    )


def _gaps(channels: dict[str, dict[int, dict[int, int]]]) -> list[str]:
    """Names of the levels and modules without which the numbering of the others makes no sense."""
    depth = max(map(len, channels.values()))
    gaps = []
    for part, levels in channels.items():
        # down and up blocks mirror each other, but a part may be absent as a whole
        count = depth if levels and part != "mid" else 0
        gaps += [BLOCKS[part].format(i) for i in range(count) if i not in levels]
        for i, modules in levels.items():
            gaps += [f"{BLOCKS[part].format(i)}.motion_modules.{j}" for j in range(len(modules)) if j not in modules]
    return gaps


def _module_shapes(channels: int, spec: MotionModelSpec) -> dict[str, tuple[int, ...]]:
    c, inner = channels, 4 * channels
    block = "transformer_blocks.0."
    blocks = [f"{block}attention_blocks.{i}." for i in range(spec.attention_blocks)]
    # in the order in which the network runs through them
    weights = {"norm": (c,), "proj_in": (c, c)}
    weights |= {f"{attention}to_{name}": (c, c) for attention in blocks for name in ("q", "k", "v", "out.0")}
    weights |= {f"{block}norms.{i}": (c,) for i in range(spec.attention_blocks)}
    weights |= {f"{block}ff.net.0.proj": (2 * inner, c), f"{block}ff.net.2": (c, inner), f"{block}ff_norm": (c,)}
    weights["proj_out"] = (c, c)
    shapes = {f"{name}.weight": shape for name, shape in weights.items()}
    shapes |= {
        f"{name}.bias": shape[:1] for name, shape in weights.items() if not name.endswith(("to_q", "to_k", "to_v"))
    }
    return shapes | {f"{attention}pos_encoder.pe": (1, spec.max_frames, c) for attention in blocks}


def tensor_shapes(spec: MotionModelSpec) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor in the state dict of a MotionModel of ``spec``; names end with .weight, .bias or .pe."""
    return {
        f"{BLOCKS[part].format(i)}.motion_modules.{j}.temporal_transformer.{name}": shape
        for part, levels in (("down", spec.down), ("mid", (spec.mid,)), ("up", spec.up))
        for i, modules in enumerate(levels)
        for j, channels in enumerate(modules)
        for name, shape in _module_shapes(channels, spec).items()
    }


def _check(spec: MotionModelSpec, tensors: Tensors) -> None:
    """Raise MotionModelFileError unless ``tensors`` are those of ``spec``. Position tables may be left out.

    Before the network is built, and not by it: the host's layers may take weights of any shape without a word.
    """
    shapes = tensor_shapes(spec)
    missing = [key for key in shapes if key not in tensors and not key.endswith(".pe")]
    unknown = [key for key in tensors if key not in shapes]
    misshapen = [
        f"{key} is {tuple(value.shape)}, not {shapes[key]}"
        for key, value in tensors.items()
        if key in shapes and tuple(value.shape) != shapes[key]
    ]
    if missing or unknown or misshapen:
        raise MotionModelFileError(_defective(spec.name, missing, unknown, misshapen))


def _defective(name: str, missing: list[str] = (), unknown: list[str] = (), misshapen: list[str] = ()) -> str:
    found = []
    for what, items in (("missing", missing), ("unknown", unknown), ("of the wrong shape", misshapen)):
        if items:
            more = f" and {len(items) - 8} more" if len(items) > 8 else ""
            found.append(f"tensors are {what} ({', '.join(items[:8])}{more})")
    return (
        f"'{name}' looks like a motion model but {' and '.join(found)}. The file is damaged or of a kind that this "
        "version does not know: download it again, or report the file with this message."
    )


def save_motion_model(
    patcher, path: str, metadata: dict[str, object] | None = None, dtype: torch.dtype | None = None
) -> None:
    """Write the motion model of ``patcher`` to a new safetensors file, in AnimateDiff's tensor names.

    The weights are those without any LoRA; ``dtype`` None keeps theirs. ``metadata`` is added to what the reader needs.
    Raises what save_tensors raises, and MotionModelFileError for models whose image inputs would be lost.
    """
    spec: MotionModelSpec = patcher.model.spec
    if spec.layout in ("PIA", "FancyVideo"):
        raise MotionModelFileError(
            f"'{spec.name}' is a {spec.layout} model; its image input is not built yet and would be missing from the "
            "file. Save a motion model without one."
        )
    tensors = {}
    for name, value in plain_state_dict(patcher).items():
        if not name.endswith(".pe"):
            tensors[name] = value if dtype is None else value.to(dtype)
        # readers know these two layouts by their tables
        elif spec.layout == "HotshotXL":
            tensors[name.replace("pos_encoder.pe", "pos_encoder.positional_encoding")] = value
        elif spec.layout != "AnimateLCM":
            tensors[name] = value
    known = {HEADS_METADATA: spec.heads, VERSION_METADATA: spec.version}
    save_tensors(tensors, path, {**known, **(metadata or {})})
