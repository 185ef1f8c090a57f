"""torch.compile as the host's TorchCompileModel puts it on a MODEL, for UNets whose options differ from run to run.

That node drops every guard on ``transformer_options``, since these change at every call. What compiled code once found
there - which keys there are, too - it then takes for granted, also for other MODELs: compiled code belongs to the
functions of the host's layers, and all UNets share it.
"""

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import torch
from comfy.patcher_extension import WrappersMP
from comfy_api.torch_helpers import torch_compile

OPTIONS = "transformer_options"
KEY_GUARDS = ("DICT_KEYS", "DICT_CONTAINS", "DICT_KEYS_MATCH")


def is_compiled(model_options: dict) -> bool:
    """Whether a run with these options (the run's own) calls a compiled UNet."""
    return torch_compile.COMPILE_KEY in model_options[OPTIONS].get("wrappers", {}).get(WrappersMP.APPLY_MODEL, {})


def backend_of(model_options: dict) -> Any:
    """The backend that a run with these options asks for: its name, or a function."""
    return (model_options.get(torch_compile.TORCH_COMPILE_KWARGS) or {}).get("backend") or "inductor"


def compile_apart(model_options: dict, apply_model: Callable, dynamic: bool | None = None) -> None:
    """Make a run with these options (the run's own) use compiled code that other MODELs do not share.

    ``apply_model`` is an APPLY_MODEL wrapper that is put around compiled UNets. ``dynamic`` is that of torch.compile, whether
    sizes are symbols; None: as the node says.
    """
    asked = model_options.get(torch_compile.TORCH_COMPILE_KWARGS) or {}
    compile_unet = partial(
        torch.compile,
        backend=_backend_apart(backend_of(model_options)),
        # some of what acts in a UNet is no part of compiled code, so it may not be one graph
        fullgraph=False,
        dynamic=asked.get("dynamic") if dynamic is None else dynamic,
        options={"guard_filter_fn": _kept_guards},
    )
    wrappers = model_options[OPTIONS]["wrappers"]
    ours = {torch_compile.COMPILE_KEY: [apply_model, _in_place_of_unets(compile_unet)]}
    # new dictionaries: those inside are the MODEL's
    model_options[OPTIONS]["wrappers"] = {
        **wrappers,
        WrappersMP.APPLY_MODEL: {**wrappers[WrappersMP.APPLY_MODEL], **ours},
    }


def _in_place_of_unets(compile_unet: Callable) -> Callable:
    """The APPLY_MODEL wrapper for compiled UNets: with several GPUs, each has one of its own."""
    compiled = {}

    def apply_model(executor, *args, **kwargs):
        unet = executor.class_obj.diffusion_model
        if unet not in compiled:
            compiled[unet] = torch_compile.apply_torch_compile_factory({"diffusion_model": compile_unet(unet)})
        return compiled[unet](executor, *args, **kwargs)

    return apply_model


@cache
def kept_out(function: Callable) -> Callable:
    """``function`` as no part of compiled code, which would go by the options of its first call."""
    return torch.compiler.disable(function)


@cache
def _backend_apart(name: str | Callable) -> Callable:
    """The backend ``name`` as an object of its own: code is shared only between equal backends."""
    backend = torch._dynamo.lookup_backend(name)

    def apart(graph, inputs, **options):
        return backend(graph, inputs)

    return apart


def _kept_guards(guards: Sequence) -> list[bool]:
    """As the host does, no guard on the options, but for which keys they have."""
    return [OPTIONS not in guard.name or guard.guard_type in KEY_GUARDS for guard in guards]
