"""Which tensors a motion model has: its specification read off them, and what is missing, unknown or misshapen."""

import re
from collections import defaultdict
from collections.abc import Sequence

from ..layouts import GENERATED_FRAMES, MAX_FRAMES, VERSIONS, Layout, Tensors, table_lengths
from ..network.temporal import NORM_GROUPS
from ..spec import MotionModelSpec
from .errors import MotionModelFileError
from .saving import HEADS_METADATA, VERSION_METADATA

BLOCKS = {"down": "down_blocks.{}", "mid": "mid_block", "up": "up_blocks.{}"}
MODULE_KEY = re.compile(r"^(?:(down|up)_blocks\.(\d+)|(mid)_block)\.motion_modules\.(\d+)\.temporal_transformer\.")
ATTENTION_KEY = re.compile(r"\.attention_blocks\.(\d+)\.")
# Of one module; published ones have two.
MAX_ATTENTION_BLOCKS = 16


def specification(name: str, layout: Layout, tensors: Tensors, metadata: dict[str, str]) -> MotionModelSpec:
    """The specification of a motion model called ``name``, from its tensors under our names, all of motion modules.

    Raises MotionModelFileError where they make no sense.
    """
    parts = _parts(name, tensors)
    channels = sorted({c for levels in parts.values() for level in levels for c in level})
    heads = metadata.get(HEADS_METADATA, str(layout.heads))
    if not re.fullmatch(r"[1-9]\d{0,4}", heads) or any(c == 0 or c % NORM_GROUPS or c % int(heads) for c in channels):
        raise MotionModelFileError(
            f"'{name}' has motion modules of {', '.join(map(str, channels))} channels in {heads[:20]} heads: the channels "
            f"must be a multiple of {NORM_GROUPS} and of the heads, and more than 0. Use another motion model."
        )
    tables = table_lengths(tensors).values()
    for frames in (min(tables, default=1), max(tables, default=1)):
        if not 1 <= frames <= MAX_FRAMES:
            raise MotionModelFileError(
                f"'{name}' has position tables of {frames:,} frames; a motion model must have 1 to {MAX_FRAMES:,} (published "
                "ones have 24 to 64). The file is damaged or was converted wrongly: use another motion model."
            )
    attention_blocks = len({i for key in tensors for i in ATTENTION_KEY.findall(key)}) or 1
    if attention_blocks > MAX_ATTENTION_BLOCKS:
        raise MotionModelFileError(
            f"'{name}' has {attention_blocks:,} attention blocks in a motion module; published ones have 2, and no more than "
            f"{MAX_ATTENTION_BLOCKS} can be used. Use another motion model."
        )
    return MotionModelSpec(
        name=name,
        layout=layout.name,
        version=_version(name, parts, tables, metadata),
        down=parts["down"],
        mid=parts["mid"][0] if parts["mid"] else (),
        up=parts["up"],
        attention_blocks=attention_blocks,
        heads=int(heads),
        max_frames=min(tables, default=GENERATED_FRAMES),
        parameters=sum(value.numel() for key, value in tensors.items() if not key.endswith(".pe")),
    )


def _parts(name: str, tensors: Tensors) -> dict[str, tuple[tuple[int, ...], ...]]:
    """Per part and level, the channels of each motion module."""
    channels: dict[str, dict[int, dict[int, int]]] = {part: defaultdict(dict) for part in BLOCKS}
    for key in tensors:
        match = MODULE_KEY.match(key)
        assert match is not None  # `interpret` keeps no others
        down_or_up, level, mid, module = match.groups()
        norm = f"{match[0]}norm.weight"
        if norm not in tensors:
            raise MotionModelFileError(_defective(name, missing=[norm]))
        channels[mid or down_or_up][int(level or 0)][int(module)] = tensors[norm].numel()
    gaps = _gaps(channels) if tensors else ["….temporal_transformer.norm.weight"]
    if gaps:
        raise MotionModelFileError(_defective(name, missing=gaps))
    return {
        part: tuple(tuple(levels[i][j] for j in sorted(levels[i])) for i in sorted(levels))
        for part, levels in channels.items()
    }


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


def _version(name: str, parts: dict, tables, metadata: dict[str, str]) -> str:
    """What the metadata says, or what the parts and the lengths of the tables of the published versions make likely."""
    four_levels = len(parts["down"] or parts["up"]) == 4
    as_v3 = four_levels and tables and min(tables) == VERSIONS["v3"].max_frames
    version = metadata.get(VERSION_METADATA, "v2" if parts["mid"] else "v3" if as_v3 else "v1")
    if version not in VERSIONS:
        raise MotionModelFileError(
            f"'{name}' says in its metadata that its {VERSION_METADATA} is '{version[:20]}'; it must be one of "
            f"{', '.join(VERSIONS)}."
        )
    return version


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


def check_tensors(spec: MotionModelSpec, tensors: Tensors) -> None:
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


def _defective(
    name: str, missing: Sequence[str] = (), unknown: Sequence[str] = (), misshapen: Sequence[str] = ()
) -> str:
    found = []
    for what, items in (("missing", missing), ("unknown", unknown), ("of the wrong shape", misshapen)):
        if items:
            more = f" and {len(items) - 8} more" if len(items) > 8 else ""
            found.append(f"tensors are {what} ({', '.join(items[:8])}{more})")
    return (
        f"'{name}' looks like a motion model but {' and '.join(found)}. The file is damaged or of a kind that this "
        "version does not know: download it again, or report the file with this message."
    )
