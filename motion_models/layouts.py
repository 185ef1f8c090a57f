"""What is known of published motion models: one row for each layout of their files, one for each version.

Tensor names are those of AnimateDiff's layout in the rest of this package:
``down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.0.to_q.weight``
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch

Tensors = dict[str, torch.Tensor]

# Channels per level of the UNets that motion models were published for.
FAMILIES = {
    (320, 640, 1280, 1280): "SD1.5",
    (320, 640, 1280): "SDXL",
}
# What training code leaves before the names of motion modules; averaged copies of the weights (EMA) under many names.
EMA = r"(?:\w+_)?ema(?:_\w+)?"
WRAPPERS = rf"(?:(?:state_dict|module|model|unet|diffusion_model|motion_adapter|motion_module|_orig_mod|{EMA})\.)+"
PREFIX = re.compile(rf"^{WRAPPERS}(?=(?:down|mid|up)_block)")
# The longest position table that is read or made, in frames: those of a v2 model take 0.15 MB per frame, 0.6 GB in all.
# Published ones have 24 to 64 frames.
MAX_FRAMES = 4096
# The length of the sinusoids that take the place of tables where a layout has none in its files.
GENERATED_FRAMES = 64


@dataclass(frozen=True)
class Version:
    """What sets the AnimateDiff releases apart."""

    mid: bool  # whether the middle of the UNet has a motion module
    max_frames: int
    # Whether the UNet's group norms take their statistics over all frames of a clip together. The first release inflates
    # the UNet to 5-D tensors, and so does what was trained with its code; later ones normalise each frame by itself.
    joint_group_norm: bool


VERSIONS = {
    "v1": Version(mid=False, max_frames=24, joint_group_norm=True),
    "v2": Version(mid=True, max_frames=32, joint_group_norm=False),
    "v3": Version(mid=False, max_frames=32, joint_group_norm=False),
}

# How other programs call a tensor of a motion module: pattern, AnimateDiff's name.
HOTSHOT_NAMES = (
    (r"\.temporal_attentions\.(\d+)\.", r".motion_modules.\1.temporal_transformer."),
    (r"pos_encoder\.positional_encoding", "pos_encoder.pe"),
)
DIFFUSERS_NAMES = (
    (r"\.motion_modules\.(\d+)\.(?!temporal_transformer)", r".motion_modules.\1.temporal_transformer."),
    (r"(\.motion_modules\..*)\.attn1\.", r"\1.attention_blocks.0."),
    (r"(\.motion_modules\..*)\.attn2\.", r"\1.attention_blocks.1."),
    (r"(\.motion_modules\..*)\.norm1\.", r"\1.norms.0."),
    (r"(\.motion_modules\..*)\.norm2\.", r"\1.norms.1."),
    (r"(\.motion_modules\..*)\.norm3\.", r"\1.ff_norm."),
)
# The way back: part of AnimateDiff's name, diffusers'.
TO_DIFFUSERS = (
    (".temporal_transformer.", "."),
    (".attention_blocks.0.", ".attn1."),
    (".attention_blocks.1.", ".attn2."),
    (".norms.0.", ".norm1."),
    (".norms.1.", ".norm2."),
    (".ff_norm.", ".norm3."),
)
DIFFUSERS_TABLE = ".pos_embed.pe"  # one for both attention blocks
TABLE = ".pos_encoder.pe"
FANCY_VIDEO = "FancyVideo"  # the entry, in a file of this layout, that marks it
PIA = "PIA"
# What layouts with pictures for input have beside their motion modules.
IMAGE_INPUT_KEY = re.compile(rf"^(?:{WRAPPERS})?((?:conv_in|(?:fps|motion)_embedding\.linear)\.(?:weight|bias))$")


def _is_fancy_video(name: str, tensors: Tensors) -> bool:
    return FANCY_VIDEO in tensors


def _is_pia(name: str, tensors: Tensors) -> bool:
    """A file with the base UNet in it has a conv_in as well."""
    found = {match[1] for match in map(IMAGE_INPUT_KEY.match, tensors) if match}
    return {"conv_in.weight", "conv_in.bias"} <= found and not any(".resnets." in key for key in tensors)


def _is_hotshot(name: str, tensors: Tensors) -> bool:
    return any(key.endswith("pos_encoder.positional_encoding") for key in tensors)


def _is_animatelcm(name: str, tensors: Tensors) -> bool:
    """No tables. Converted to diffusers' layout it has generated ones, 64 long, or none in the mid block; where both were
    made as long as AnimateDiff's only the file's name is left to tell it by.
    """
    tables = table_lengths(tensors)
    if not tables:
        return True
    if not all(key.endswith(DIFFUSERS_TABLE) for key in tables):
        return False
    mid = [key for key in tensors if key.startswith("mid_block.")]
    without_mid_table = mid and not any(key.startswith("mid_block.") for key in tables)
    return bool(without_mid_table) or min(tables.values()) == GENERATED_FRAMES or "lcm" in name.lower()


@dataclass(frozen=True)
class Layout:
    """What is known of one layout."""

    name: str
    recognised: Callable[[str, Tensors], bool]  # from a file's name, and its tensors without prefixes
    names: tuple[tuple[str, str], ...] = ()  # how it calls a tensor, where it is not AnimateDiff's name
    heads: int = 8  # of the attention; tensors do not tell
    table: str | None = TABLE  # how the names of position tables end in its files; None: they have none
    # the noise schedule of the training, an option of the beta_schedule inputs
    beta_schedule: str = "sqrt_linear (AnimateDiff)"
    sdxl_beta_schedule: str = "linear (AnimateDiff-SDXL)"
    joint_group_norm: bool | None = None  # None: as the version has it
    not_saved: str = ""  # why it cannot be written to a file, if it cannot


IMAGE_INPUT = "the half of its image input that belongs to a checkpoint is not kept and would be missing from the file"
LAYOUTS = {  # in the order in which they are tried
    row.name: row
    for row in (
        Layout(FANCY_VIDEO, _is_fancy_video, not_saved=IMAGE_INPUT),
        Layout(PIA, _is_pia, joint_group_norm=True, not_saved=IMAGE_INPUT),
        Layout(
            "HotshotXL",
            _is_hotshot,
            HOTSHOT_NAMES,
            table=".pos_encoder.positional_encoding",
            sdxl_beta_schedule="linear (HotshotXL/default)",
        ),
        Layout("AnimateLCM", _is_animatelcm, DIFFUSERS_NAMES, table=None, beta_schedule="lcm"),
        Layout("AnimateDiff", lambda name, tensors: True, DIFFUSERS_NAMES),
    )
}


def recognise(name: str, tensors: Tensors) -> Layout:
    """The layout of a file called ``name``, from its tensors without prefixes."""
    return next(row for row in LAYOUTS.values() if row.recognised(name, tensors))


def diffusers_name(name: str) -> str:
    """What diffusers calls a tensor or layer of a motion module; position tables have another form there."""
    for ours, theirs in TO_DIFFUSERS:
        name = name.replace(ours, theirs)
    return name


def is_diffusers(names: Iterable[str]) -> bool:
    """Whether the motion modules among the names are called as diffusers calls them."""
    return any(re.search(DIFFUSERS_NAMES[0][0], name) for name in names)


def table_lengths(tensors: Tensors) -> dict[str, int]:
    """The frames of each position table ``(1, frames, channels)``, by its name."""
    tables = {key: value for key, value in tensors.items() if key.endswith((DIFFUSERS_TABLE, TABLE))}
    return {key: value.shape[1] for key, value in tables.items() if value.ndim == 3}


T = TypeVar("T")


def our_names(tensors: Mapping[str, T]) -> dict[str, T]:
    """The tensors of any layout (without prefixes) under the names of AnimateDiff's."""
    # a file may mix them: PIA in diffusers' names
    patterns = {re.compile(theirs): ours for row in LAYOUTS.values() for theirs, ours in row.names}
    renamed: dict[str, T] = {}
    for key, value in tensors.items():
        for theirs, ours in patterns.items():
            key = theirs.sub(ours, key)
        if key.endswith(DIFFUSERS_TABLE):
            for block in (0, 1):
                renamed[key.replace(DIFFUSERS_TABLE, f".attention_blocks.{block}{TABLE}")] = value
        else:
            renamed[key] = value
    return renamed
