"""The places where something may go wrong, and a fault that goes off at one of them.

Nothing of the pack is replaced: faults come from where they come from in life - other packs' callbacks and wrappers, the
host's progress bar, layers that run out of memory, tensors that fail when they are used, readers and writers of files.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from animatediff_faults_parts import Parts
from animatediff_faults_running import output
from animatediff_faults_stand_ins import CALLS, FRAMES, node


class Fault:
    """An exception that is raised once, when a place is passed for the ``at``-th time since ``arm``."""

    def __init__(self):
        self.disarm()
        self.undo: list[Callable] = []  # what takes faulty places out of networks that others share

    def arm(self, exception: BaseException, at: int = 1, after_calls: int = 0) -> None:
        """``after_calls``: only from so many calls of a UNet on."""
        self.exception, self.left, self.hits = exception, at, 0
        self.from_call = CALLS.unet + after_calls

    def disarm(self) -> None:
        self.exception, self.left, self.hits, self.from_call = None, 0, 0, 0

    def __deepcopy__(self, memo) -> Fault:
        return self  # in the copies of networks that are trained, too

    def __call__(self, *_, **__) -> None:
        """The place is passed."""
        if self.exception is None or self.hits or CALLS.unet < self.from_call:
            return
        self.left -= 1
        if self.left == 0:
            self.hits += 1
            raise self.exception

    def clear(self) -> None:
        """Disarm, and leave no faulty place behind."""
        self.disarm()
        while self.undo:
            self.undo.pop()()


FAULT = Fault()


class FaultyTensor(torch.Tensor):
    """A tensor that passes the fault's place whenever something is computed from it."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        if getattr(function, "__name__", "") not in ("__get__", "size", "dim", "__len__"):
            FAULT()
        return super().__torch_function__(function, types, args, kwargs or {})


def faulty_tensor(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.as_subclass(FaultyTensor)


def in_layer(network: torch.nn.Module, ending: str) -> None:
    """The fault in front of the last layer whose name ends so."""
    *_, layer = (module for name, module in network.named_modules() if name.endswith(ending))
    FAULT.undo.append(layer.register_forward_pre_hook(FAULT).remove)


# Each takes what a link carries and gives it with a faulty place in it.


def before_calls(model):
    """Another pack's function around each call of the UNet."""
    model = model.clone()

    def wrapper(apply_model, args):
        FAULT()
        return apply_model(args["input"], args["timestep"], **args["c"])

    model.set_model_unet_function_wrapper(wrapper)
    return model


def in_callback(kind: str) -> Callable:
    """One of the moments that the host's patchers call back at."""

    def put(patcher):
        from comfy.patcher_extension import CallbacksMP

        patcher = patcher.clone()
        patcher.add_callback(getattr(CallbacksMP, kind), FAULT)
        return patcher

    return put


def in_injection(inject: bool) -> Callable:
    """Another pack that puts something into the UNet, or takes it out."""

    def put(model):
        from comfy.patcher_extension import PatcherInjection

        model = model.clone()
        nothing = lambda patcher: None  # noqa: E731
        model.set_injections("another pack", [PatcherInjection(*((FAULT, nothing) if inject else (nothing, FAULT)))])
        return model

    return put


def in_merging(patcher):
    """A LoRA whose change of a weight cannot be computed."""
    from comfy.weight_adapter.base import WeightAdapterBase

    class Broken(WeightAdapterBase):
        name, loaded_keys, weights = "broken", set(), ()

        def calculate_weight(self, weight, *_, **__):
            FAULT()
            return weight

    patcher = patcher.clone()
    name = next(name for name in patcher.model.state_dict() if name.endswith("to_q.weight"))
    patcher.add_patches({name: Broken()})
    return patcher


def in_temporal_attention(patcher):
    in_layer(patcher.model, "to_k")
    return patcher


def in_spatial_layers(ending: str) -> Callable:
    def put(model):
        in_layer(model.model.diffusion_model, ending)
        return model

    return put


def in_control_net(control_net):
    in_layer(control_net.control_model, "middle_block.0")
    return control_net


def in_fused_predictions(model):
    """What the UNet predicts of a window cannot be added to the rest."""
    from comfy.patcher_extension import WrappersMP

    def wrapper(executor, *args, **kwargs):
        predictions = executor(*args, **kwargs)
        return predictions if FAULT.exception is None else [faulty_tensor(one) for one in predictions]

    model = model.clone()
    model.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, "another pack", wrapper)
    return model


def between_iterations(model):
    """What one iteration made cannot be used by the next."""
    from comfy.patcher_extension import WrappersMP

    def wrapper(executor, *args, **kwargs):
        made = executor(*args, **kwargs)
        return made if FAULT.exception is None else faulty_tensor(made)

    model = model.clone()
    model.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, "another pack", wrapper)
    return model


def before_an_iteration(model):
    from comfy.patcher_extension import WrappersMP

    def wrapper(executor, *args, **kwargs):
        FAULT()
        return executor(*args, **kwargs)

    model = model.clone()
    model.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, "another pack", wrapper)
    return model


def after_guidance(model):
    model = model.clone()

    def function(args):
        FAULT()
        return args["denoised"]

    model.set_model_sampler_post_cfg_function(function)
    return model


def in_text_encoder(clip):
    clip = copy.copy(clip)
    encode = clip.encode_from_tokens

    def encode_from_tokens(*args, **kwargs):
        FAULT()
        return encode(*args, **kwargs)

    clip.encode_from_tokens = encode_from_tokens
    return clip


def right_here(value):
    FAULT()
    return value


PLACES: dict[str, Callable] = {}


def put_fault(place: str, value):
    return PLACES[place](value)


FAULT_NODE = {"Fault": node(put_fault, {"place": "STRING", "value": "*"}, ("*",))}


def faulty(g: Parts, place: str, link):
    """What a link carries, with the fault in it; put there anew, as FAULT.clear takes some away."""
    return g("Fault", place=place, value=link, salt=g.salt)


def everything(g: Parts, place: str = "") -> None:
    """A clip with as much of the pack at work as goes together. ``place`` is where the fault is, if any."""

    def may_fail(name: str, link):
        return faulty(g, name, link) if name == place else link

    loras = g("ADE_AnimateDiffLoRALoader", prev_motion_lora=g("ADE_AnimateDiffLoRALoader", name="pan.safetensors"))
    loras = g(
        "AnimateDiffScheduleMotionLoRA",
        motion_lora=loras,
        strengths="0: 1, 0.5: 0.3",
        frame_strengths="0: 1, 5: 0.5",
        mask=may_fail("mask of a MotionLoRA", g("TinyMask")),
    )
    strength = g("ADE_MultivalDynamic", mask_optional=may_fail("mask of the motion's strength", g("TinyMask")))
    keyframes = g("ADE_AnimateDiffKeyframe", start_percent=0.3, effect_multival=strength)
    motion_model = g("ADE_LoadAnimateDiffModel")
    for name in ("loading weights", "merging weights", "temporal attention of a window"):
        motion_model = may_fail(name, motion_model)
    constant = g("ADE_AnimateDiffLoRALoader", strength=0.5)
    first = g("ADE_ApplyAnimateDiffModel", motion_model=motion_model, motion_lora=loras, ad_keyframes=keyframes)
    v1 = g("ADE_LoadAnimateDiffModel", model_name="v1.safetensors")
    # applied last, it makes the group norms joint
    m_models = g("ADE_ApplyAnimateDiffModel", motion_model=v1, motion_lora=constant, prev_m_models=first)
    context = g("ADE_StandardUniformContextOptions", view_opts=g("ADE_StandardStaticViewOptions"))
    extras = g("ADE_CFGExtrasPAGSimple", prev_extras=g("ADE_CFGExtrasRescaleCFGSimple"))
    layers = g("ADE_NoiseLayerAdd", mask_optional=may_fail("drawing noise", g("TinyMask")))
    settings = g(
        "ADE_AnimateDiffSamplingSettings",
        noise_layers=layers,
        iteration_opts=g("ADE_IterationOptsFreeInit"),
        custom_cfg=g("ADE_CustomCFGKeyframeSimple", cfg_extras=extras),
    )
    model = g("TinyModel")
    for name in BEFORE_OURS:
        model = may_fail(name, model)
    model = g.animate(model, m_models=m_models, context_options=context, sample_settings=settings)
    for name in BEHIND_OURS:
        model = may_fail(name, model)
    conds = g(
        "ControlNetApplyAdvanced",
        positive=g("ADE_PromptScheduling", clip=may_fail("encoding prompts", g("TinyClip"))),
        control_net=may_fail("ControlNet", g("TinyControlNet")),
        image=may_fail("pictures of a window's ControlNet", g("TinyPictures")),
    )
    made = g("KSampler", model=model, positive=conds, negative=output(conds, 1))
    g.keep(may_fail("decoding afterwards", made))


BEFORE_OURS = {
    "another pack's injection": in_injection(inject=True),
    "another pack's ejection, before ours": in_injection(inject=False),
    "spatial attention": in_spatial_layers("attn1.to_q"),
    "group norm that is joint": in_spatial_layers("out.0"),
}
BEHIND_OURS = {
    "first call of the UNet": before_calls,
    "middle call of the UNet": before_calls,
    "last call of the UNet": before_calls,
    "once the modules are in": in_callback("ON_INJECT_MODEL"),
    "before the first step": in_callback("ON_PRE_RUN"),
    "another pack's ejection, behind ours": in_injection(inject=False),
    "once the modules are out": in_callback("ON_EJECT_MODEL"),
    "the host's cleaning up": in_callback("ON_CLEANUP"),
    "fusing windows": in_fused_predictions,
    "guidance": after_guidance,
    "before an iteration": before_an_iteration,
    "mixing the noise of an iteration": between_iterations,
}
PLACES |= {
    **BEFORE_OURS,
    **BEHIND_OURS,
    "mask of a MotionLoRA": faulty_tensor,
    "mask of the motion's strength": faulty_tensor,
    "drawing noise": faulty_tensor,
    "pictures of a window's ControlNet": faulty_tensor,
    "loading weights": in_callback("ON_LOAD"),
    "merging weights": in_merging,
    "temporal attention of a window": in_temporal_attention,
    "ControlNet": in_control_net,
    "encoding prompts": in_text_encoder,
    "decoding afterwards": right_here,
    "pictures to be saved": faulty_tensor,
}
# From how many calls of the UNet on, or at which time that the place is passed; else the first.
AFTER_CALLS = {"mask of a MotionLoRA": 2, "mask of the motion's strength": 2}
AT = {
    "pictures of a window's ControlNet": 2,  # the node that applies it is the first to use them
    "temporal attention of a window": 3,
    "spatial attention": 4,
    "group norm that is joint": 2,
    "ControlNet": 2,
    "guidance": 2,
    "before an iteration": 2,
    "encoding prompts": 2,
}


@contextmanager
def reader_fails() -> Iterator[None]:
    """Whatever reads model files passes the fault's place first."""
    import comfy.utils
    import safetensors

    with replaced(safetensors, "safe_open", FAULT), replaced(comfy.utils, "load_torch_file", FAULT):
        yield


@contextmanager
def writer_fails() -> Iterator[None]:
    """Whatever writes safetensors files ends with a part of the file written."""
    import safetensors.torch

    def save_file(tensors, path, *_, **__):
        with open(path, "wb") as file:
            file.write(b"half of it")
        FAULT()

    with replaced(safetensors.torch, "save_file", save_file):
        yield


@contextmanager
def progress_fails() -> Iterator[None]:
    """The host's progress bar, which samplers and trainers call at each step."""
    import comfy.utils

    comfy.utils.set_progress_bar_global_hook(FAULT)
    try:
        yield
    finally:
        comfy.utils.set_progress_bar_global_hook(None)


@contextmanager
def replaced(module, name: str, by: Callable) -> Iterator[None]:
    before = getattr(module, name)
    setattr(module, name, by)
    try:
        yield
    finally:
        setattr(module, name, before)


def files_below(*folders: str) -> dict[str, int]:
    """Sizes of all files, by path."""
    return {
        os.path.join(folder, name): os.path.getsize(os.path.join(folder, name))
        for top in folders
        for folder, _, names in os.walk(top)
        for name in names
    }


assert FRAMES > 4  # more than one window
