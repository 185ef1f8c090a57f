"""Motion models made up tensor by tensor, in the layouts of the published files, and reading them."""

from __future__ import annotations

import ctypes
import itertools
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

Tensors = dict[str, torch.Tensor]

# diffusers' name of each part of a transformer block; its one position table serves both attention blocks.
DIFFUSERS_NAMES = {
    "attention_blocks.0.pos_encoder.": "pos_embed.",
    "attention_blocks.0.": "attn1.",
    "attention_blocks.1.": "attn2.",
    "norms.0.": "norm1.",
    "norms.1.": "norm2.",
    "ff_norm.": "norm3.",
}


def module_shapes(c: int, attention_blocks: int, table: int | None) -> dict[str, tuple[int, ...]]:
    """The tensors of one temporal transformer of ``c`` channels (28 for the published ones)."""
    shapes = {
        "norm.weight": (c,),
        "norm.bias": (c,),
        "proj_in.weight": (c, c),
        "proj_in.bias": (c,),
        "transformer_blocks.0.ff.net.0.proj.weight": (8 * c, c),
        "transformer_blocks.0.ff.net.0.proj.bias": (8 * c,),
        "transformer_blocks.0.ff.net.2.weight": (c, 4 * c),
        "transformer_blocks.0.ff.net.2.bias": (c,),
        "transformer_blocks.0.ff_norm.weight": (c,),
        "transformer_blocks.0.ff_norm.bias": (c,),
        "proj_out.weight": (c, c),
        "proj_out.bias": (c,),
    }
    for i in range(attention_blocks):
        block = f"transformer_blocks.0.attention_blocks.{i}"
        shapes |= {f"{block}.to_{name}.weight": (c, c) for name in ("q", "k", "v", "out.0")}
        shapes[f"{block}.to_out.0.bias"] = (c,)
        shapes |= {f"transformer_blocks.0.norms.{i}.{name}": (c,) for name in ("weight", "bias")}
        if table is not None:
            shapes[f"{block}.pos_encoder.pe"] = (1, table, c)
    return shapes


def renamed(name: str, layout: str) -> str | None:
    """A tensor of AnimateDiff's layout in another; None if it has no place there."""
    if layout == "HotshotXL":
        name = name.replace("pos_encoder.pe", "pos_encoder.positional_encoding")
        before, after = name.split(".motion_modules.")
        module, rest = after.split(".temporal_transformer.")
        return f"{before}.temporal_attentions.{module}.{rest}"
    if layout == "diffusers":
        if name.endswith("attention_blocks.1.pos_encoder.pe"):
            return None
        name = name.replace(".temporal_transformer.", ".")
        for ours, theirs in DIFFUSERS_NAMES.items():
            name = name.replace(f"transformer_blocks.0.{ours}", f"transformer_blocks.0.{theirs}")
    return name


@pytest.fixture(scope="session")
def motion_tensors() -> Callable[..., Tensors]:
    """Build the tensors of a motion model: equal arguments, equal tensors, whatever the layout."""

    def build(
        levels: tuple[int, ...] = (32, 64),
        down: int = 2,
        mid: bool = True,
        up: int = 3,
        *,
        attention_blocks: int = 2,
        table: int | None = 32,
        layout: str = "AnimateDiff",
        prefix: str = "",
        shapes_only: bool = False,
    ) -> Tensors:
        """``levels`` are the channels, shallowest first; ``down`` and ``up`` the modules per level (0: no such part).

        With ``shapes_only`` the tensors take no memory, at any width.
        """
        modules = [(f"down_blocks.{i}.motion_modules.{j}", c) for i, c in enumerate(levels) for j in range(down)]
        modules += [("mid_block.motion_modules.0", levels[-1])] if mid else []
        modules += [(f"up_blocks.{i}.motion_modules.{j}", c) for i, c in enumerate(levels[::-1]) for j in range(up)]
        seeds = itertools.count()
        tensors = {}
        for module, channels in modules:
            for name, shape in module_shapes(channels, attention_blocks, table).items():
                value = (
                    torch.zeros(1).expand(shape)
                    if shapes_only
                    else torch.randn(shape, generator=torch.Generator().manual_seed(next(seeds)))
                )
                key = renamed(f"{module}.temporal_transformer.{name}", layout)
                if key is not None:
                    tensors[prefix + key] = value
        return tensors

    return build


@pytest.fixture(scope="session")
def files(pack):
    return pack.submodule("motion_models.files.motion_model")


@pytest.fixture(params=["reads", "maps"])
def reading(request, host_path, monkeypatch):
    """The host's two ways to a .safetensors file; it maps files, and fills layers lazily, under dynamic VRAM."""
    if request.param == "reads":
        return
    memory_management = pytest.importorskip("comfy.memory_management", reason="this release has no dynamic VRAM")
    if not hasattr(memory_management, "aimdo_enabled"):
        pytest.skip("this release has no dynamic VRAM")
    monkeypatch.setattr(memory_management, "aimdo_enabled", True)
    mapping = pytest.importorskip("comfy_aimdo.model_mmap", reason="this ComfyUI has no comfy-aimdo, which maps files")
    monkeypatch.setattr(mapping, "ModelMMAP", MappedFile, raising=False)


class MappedFile:
    """What the host's native library does, without the graphics card that it wants."""

    def __init__(self, path: str):
        self.content = ctypes.create_string_buffer(Path(path).read_bytes())

    def get(self) -> int:
        return ctypes.addressof(self.content)

    def get_file_handle(self) -> None:
        return None


@pytest.fixture
def write(tmp_path):
    """Write tensors (.safetensors, or any object as .ckpt) or bytes; returns the path."""

    def write(content, name: str = "motion", suffix: str = ".safetensors", **options) -> str:
        path = str(tmp_path / f"{name}{suffix}")
        if isinstance(content, bytes):
            Path(path).write_bytes(content)
        elif suffix == ".safetensors":
            save_file({key: value.contiguous() for key, value in content.items()}, path, **options)
        else:
            torch.save(content, path, **options)
        return path

    return write


@pytest.fixture
def refusal(files):
    """The message with which a file is refused: one that can be read, and names the file."""

    def refusal(path: str) -> str:
        with pytest.raises(files.MotionModelFileError) as caught:
            files.load_motion_model(path)
        message = str(caught.value)
        assert os.path.splitext(os.path.basename(path))[0] in message
        assert "Traceback" not in message
        assert "\n" not in message
        assert len(message) < 1500
        return message

    return refusal
