"""What makes one model of the host another: for what is kept of its work from one start to the next."""

import hashlib
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

import torch

SAMPLES = 1024  # numbers of each tensor that are looked at: two trainings share none of them


def identity(model: Any, *settings: object) -> str:
    """A text that is the same for the same weights, patches and ``settings`` of a VAE or CLIP, in every process.

    Of a model whose weights cannot be seen (other packs have some), or with hooks that change them as it works, a new text.
    """
    patcher: Any = getattr(model, "patcher", None)
    if not hasattr(patcher, "get_key_patches") or getattr(patcher, "forced_hooks", None) is not None:
        return uuid.uuid4().hex
    digest = hashlib.sha256(repr(settings).encode())
    # as they are without patches, whether or not the host has put these in by now; then the patches
    for name, parts in sorted(patcher.get_key_patches().items()):
        digest.update(name.encode())
        _feed(digest, parts)
    return digest.hexdigest()


def text_encoder_identity(clip: Any) -> str:
    return identity(clip, getattr(clip, "layer_idx", None), sorted(getattr(clip, "tokenizer_options", {}).items()))


def _feed(digest: Any, thing: Any) -> None:
    if isinstance(thing, torch.Tensor):
        flat = thing.detach().reshape(-1)
        some = flat[:: max(1, len(flat) // SAMPLES)].cpu().contiguous()
        digest.update(repr((tuple(thing.shape), thing.dtype)).encode())
        digest.update(some.view(torch.uint8).numpy().tobytes())
    elif thing is None or isinstance(thing, (str, int, float, bool)):
        digest.update(repr(thing).encode())
    elif isinstance(thing, Mapping):
        _feed(digest, [part for entry in sorted(thing.items(), key=lambda entry: str(entry[0])) for part in entry])
    elif isinstance(thing, Iterable):
        for part in thing:
            _feed(digest, part)
    elif not callable(thing):
        digest.update(type(thing).__name__.encode())  # an adapter of the host
        _feed(digest, vars(thing))
