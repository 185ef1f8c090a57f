"""What must be as before, whatever went wrong: networks, MODELs, the host's functions and classes, files."""

from __future__ import annotations

import sys

import torch
from torch import nn


def structure(network: nn.Module) -> dict[str, tuple]:
    """Modules in their order: name, object, class, a forward or hooks of its own; and the names of all tensors."""
    return {
        name: (
            id(module),
            type(module),
            "forward" in vars(module),
            len(module._forward_pre_hooks),
            len(module._forward_hooks),
            tuple(module._parameters),
            tuple(module._buffers),
        )
        for name, module in network.named_modules()
    }


def bits(network: nn.Module) -> dict[str, torch.Tensor]:
    """A copy of all its tensors."""
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def same_bits(network: nn.Module, before: dict[str, torch.Tensor]) -> bool:
    now = network.state_dict()
    return list(now) == list(before) and all(torch.equal(now[name], value) for name, value in before.items())


def frozen(value):
    """Dictionaries, lists and sets as tuples, to compare them with later; everything else by identity."""
    if isinstance(value, dict):
        return tuple((key if isinstance(key, str) else id(key), frozen(one)) for key, one in value.items())
    if isinstance(value, (list, tuple)):
        return tuple(map(frozen, value))
    return value if isinstance(value, (str, int, float, bool, type(None))) else id(value)


CARRIED = ("model_options", "wrappers", "callbacks", "injections", "additional_models", "attachments", "object_patches")


def carried(model) -> dict[str, tuple]:
    """What a MODEL carries besides its network."""
    return {name: frozen(getattr(model, name)) for name in CARRIED}


def host_callables() -> dict[tuple[str, ...], object]:
    """The functions and classes of the host and of PyTorch, and the methods of the classes."""
    found = {}
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] not in ("comfy", "comfy_extras", "comfy_execution", "torch", "execution", "nodes"):
            continue
        for key, value in list(vars(module).items()):
            if callable(value):
                found[name, key] = value
            if isinstance(value, type) and value.__module__ == name:
                methods = {(name, key, k): v for k, v in list(vars(value).items())}
                found |= {k: v for k, v in methods.items() if callable(v) or isinstance(v, property)}
    return found


def changed_callables(before: dict[tuple[str, ...], object]) -> list[str]:
    now = host_callables()
    return [".".join(key) for key, value in before.items() if now.get(key) is not value]
