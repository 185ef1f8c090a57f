"""Spatial layers of a UNet a few frames at a time: they look at single pictures, so their memory need not grow with the clip.

What all frames are needed for stays whole: the temporal modules, the hidden state between the layers, and the skip connections.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from comfy.ldm.modules.attention import SpatialTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import Downsample, ResBlock, Upsample
from torch import nn

from .call import ALL_FRAMES_KEY, FRAMES_KEY
from .forwards import forwards_replaced

# Of what other packs read: the frames of the clip that they are asked for, and their number.
OF_CLIP, COUNT = "sub_idxs", "context_length"
# Of the host's patches of spatial transformers, the one (of GLIGEN) that holds tensors as large as the batch.
WHOLE_PATCH = "middle_patch"


def kept_bytes(unet: Any, x: torch.Tensor) -> int:
    """At most what hidden state and skip connections of a UNet call need for a batch ``x (batch, channels, height, width)``.

    Those grow with the number of frames, however small the chunks are.
    """
    height, width = x.shape[2:]
    skips, widest, channels = 0, 0, unet.model_channels
    for block in unet.input_blocks:
        for layer in block:
            if isinstance(layer, Downsample):
                height, width = math.ceil(height / 2), math.ceil(width / 2)
            channels = getattr(layer, "out_channels", channels)
        skips += channels * height * width
        widest = max(widest, channels * height * width)
    # in the last blocks: the hidden state beside a skip connection, what a layer makes of both, and its motion module's copy
    return (skips + 4 * widest) * x.shape[0] * x.element_size()


@contextmanager
def in_chunks(unet: Any, frames: int, chunk: int) -> Iterator[None]:
    """Inside the ``with``, spatial layers of ``unet`` see at most ``chunk`` frames of every clip of a batch at a time.

    The batch holds clips of ``frames`` frames. Only these very layers are altered, by an attribute of their own.
    """
    if chunk >= frames:
        yield
        return
    # as many chunks as need be, of one size but the last
    chunk = math.ceil(frames / math.ceil(frames / max(1, chunk)))
    layers = [layer for layer in unet.modules() if isinstance(layer, tuple(WRAPPERS))]

    def in_parts(layer: Any) -> Callable:
        wrap = next((wrap for kind, wrap in WRAPPERS.items() if isinstance(layer, kind)), _rows_in_chunks)
        return wrap(layer.forward, frames, chunk)

    with forwards_replaced([*layers, unet.out], in_parts):
        yield


def _rows_in_chunks(forward: Callable, frames: int, chunk: int) -> Callable:
    """For layers to which all pictures of a batch are alike."""

    def run(x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        rows = chunk * (len(x) // frames)
        places = [slice(start, start + rows) for start in range(0, len(x), rows)]
        parts = (forward(*(_cut(arg, len(x), place) for arg in (x, *args)), **kwargs) for place in places)
        return _joined(zip(places, parts, strict=True), len(x))

    return run


def _transformer_in_chunks(forward: Callable, frames: int, chunk: int) -> Callable:
    """For spatial transformers, whose patches may want to know which frames of the clip they see.

    A chunk has the same frames of each clip, as a context window has.
    """

    def run(x: torch.Tensor, context: Any = None, transformer_options: Mapping[str, Any] | None = None) -> torch.Tensor:
        options = transformer_options or {}
        if options.get(ALL_FRAMES_KEY) or WHOLE_PATCH in options.get("patches", {}):
            return forward(x, context, transformer_options)

        def parts() -> Iterator[tuple[list[int], torch.Tensor]]:
            for start in range(0, frames, chunk):
                of_chunk = range(frames)[start : start + chunk]
                rows = [first + frame for first in range(0, len(x), frames) for frame in of_chunk]
                yield rows, forward(x[rows], _cut(context, len(x), rows), _options_of(options, of_chunk))

        return _joined(parts(), len(x))

    return run


def _options_of(options: Mapping[str, Any], frames: range) -> dict[str, Any]:
    told = options.get(FRAMES_KEY)
    if told is None:
        return dict(options)
    window = told[OF_CLIP]
    of_clip = [frame if window is None else window[frame] for frame in frames]
    return {**options, FRAMES_KEY: {**told, OF_CLIP: of_clip, COUNT: len(of_clip)}}


def _cut(value: Any, batch: int, rows: slice | list[int]) -> Any:
    """The rows of what has one for each picture of the batch."""
    if isinstance(value, list):
        return [_cut(one, batch, rows) for one in value]
    return value[rows] if isinstance(value, torch.Tensor) and value.ndim and len(value) == batch else value


def _joined(parts: Iterable[tuple[slice | list[int], torch.Tensor]], rows: int) -> torch.Tensor:
    """``(rows, …)`` out of parts and their places, without all of the parts at once in memory beside it."""
    whole = None
    for place, part in parts:
        if whole is None:
            whole = torch.empty((rows, *part.shape[1:]), dtype=part.dtype, device=part.device)
        whole[place] = part
    assert whole is not None
    return whole


WRAPPERS: dict[type[nn.Module], Callable] = {
    ResBlock: _rows_in_chunks,
    Downsample: _rows_in_chunks,
    Upsample: _rows_in_chunks,
    SpatialTransformer: _transformer_in_chunks,
}
