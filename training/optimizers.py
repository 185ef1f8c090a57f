"""The optimisers that a training can have: one row each.

All of them take weight decay as AdamW does (Loshchilov and Hutter, arXiv 1711.05101): a weight shrinks by
``learning_rate * weight_decay`` of itself in each step, whatever its gradient. Added to the gradient instead, as
PyTorch's Adam and RMSprop do by default, the decay is divided by the gradient's size: where gradients are small, as those
of LoRAs are, it is all that is left, and weights go back to zero at full speed.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch

from ..host.device import training_device

Parameters = Iterable[torch.nn.Parameter]
ENOUGH = 1 << 14  # numbers, for an optimiser that leaves small tensors to the usual kernels


@dataclass(frozen=True)
class OptimizerKind:
    """``make(parameters, learning_rate, weight_decay)`` makes it, ``package`` is what to install for it ("": nothing).

    Below ``least`` as learning rate it learns nothing in any training that ends, of which ``why`` tells, and what to set.
    ``averages``: it has ``train()`` and ``eval()``, since the weights that it steps are not those that it hands on.
    """

    make: Callable[[Parameters, float, float], torch.optim.Optimizer]
    package: str = ""
    module: str = ""
    least: float = 0.0
    why: str = ""
    averages: bool = False


def decoupled(optimizer: type[torch.optim.Optimizer]) -> Callable[[Parameters, float, float], torch.optim.Optimizer]:
    """An optimiser of PyTorch with AdamW's weight decay in place of its own."""

    def make(parameters: Parameters, learning_rate: float, weight_decay: float) -> torch.optim.Optimizer:
        made = optimizer(parameters, lr=learning_rate, weight_decay=0.0)  # pyright: ignore[reportCallIssue]

        def decay(*_):
            for group in made.param_groups:
                for parameter in group["params"]:
                    parameter.data.mul_(1 - group["lr"] * weight_decay)

        if weight_decay:
            made.register_step_pre_hook(decay)
        return made

    return make


def of_library(module: str, name: str, **settings) -> Callable[[Parameters, float, float], torch.optim.Optimizer]:
    """An optimiser of another package, whose weight decay is AdamW's with these ``settings``."""

    def make(parameters: Parameters, learning_rate: float, weight_decay: float) -> torch.optim.Optimizer:
        kind = getattr(import_module(module), name)
        return kind(parameters, lr=learning_rate, weight_decay=weight_decay, **settings)

    return make


def of_torch(optimizer: type[torch.optim.Optimizer]) -> Callable[[Parameters, float, float], torch.optim.Optimizer]:
    return lambda parameters, learning_rate, weight_decay: optimizer(
        parameters,
        lr=learning_rate,  # pyright: ignore[reportCallIssue]
        weight_decay=weight_decay,  # pyright: ignore[reportCallIssue]
    )


def _library(package: str, module: str, name: str, settings: dict | None = None, **row) -> OptimizerKind:
    return OptimizerKind(of_library(module, name, **(settings or {})), package, module, **row)


OPTIMIZERS: dict[str, OptimizerKind] = {
    "AdamW": OptimizerKind(of_torch(torch.optim.AdamW)),
    "Adam": OptimizerKind(decoupled(torch.optim.Adam)),
    "RMSprop": OptimizerKind(decoupled(torch.optim.RMSprop)),
    # its own decay is decoupled by nature
    "SGD": OptimizerKind(
        of_torch(torch.optim.SGD),
        least=1e-2,
        why="gradients are clipped to a length of 1, so that all weights together move by no more than the learning rate in a "
        "step. Set learning_rate to about 1",
    ),
    "AdamW 8-bit": _library("bitsandbytes", "bitsandbytes.optim", "AdamW8bit"),
    "Lion": _library("lion-pytorch", "lion_pytorch", "Lion"),
    "Prodigy": _library(
        "prodigyopt",
        "prodigyopt",
        "Prodigy",
        {"decouple": True, "use_bias_correction": True, "safeguard_warmup": True},
        least=0.1,
        why="it finds the learning rate itself, and multiplies it by the one that is set. Set learning_rate to 1",
    ),
    "AdamW schedule-free": _library("schedulefree", "schedulefree", "AdamWScheduleFree", averages=True),
}


def check_optimizer(name: str, learning_rate: float) -> str | None:
    """What is wrong with it, and what to do; None if it can work."""
    kind = OPTIMIZERS[name]
    if learning_rate < kind.least:
        return f"The optimizer {name} learns nothing at learning_rate {learning_rate:g}: {kind.why}, or take AdamW."
    if not kind.package:
        return None
    try:
        import_module(kind.module)
    except Exception as error:  # a package that is there may still fail to find its libraries
        missing = isinstance(error, ModuleNotFoundError)
        return (
            f"The optimizer {name} needs the Python package {kind.package}, which "
            f"{'is not installed' if missing else f'cannot be loaded ({error})'}. Install it where ComfyUI runs "
            f"(pip install {kind.package}) and start ComfyUI again, or take AdamW."
        )
    try:
        _step(kind)
    except Exception as error:
        return (
            f"The optimizer {name} does not work on this machine ({error}). Bring its Python package up to date "
            f"(pip install --upgrade {kind.package}) and start ComfyUI again, or take AdamW."
        )
    return None


def _step(kind: OptimizerKind) -> None:
    """A step of some zeros where training computes: packages with kernels of their own have them for some devices only."""
    with torch.inference_mode(False):
        parameter = torch.nn.Parameter(torch.zeros(ENOUGH, device=training_device()))
        parameter.grad = torch.zeros_like(parameter)
        made: Any = kind.make([parameter], 1.0, 0.0)
        if kind.averages:
            made.train()
        made.step()
