"""How much memory a UNet call takes on a graphics card, counted without one: on PyTorch's meta device nothing is computed."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from unittest import mock

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# The UNets of the host's classes of checkpoints, at their real size.
UNETS = {
    "SD15": {
        "channel_mult": (1, 2, 4, 4),
        "num_res_blocks": [2, 2, 2, 2],
        "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
        "transformer_depth_middle": 1,
        "transformer_depth_output": [1] * 9 + [0] * 3,
        "num_heads": 8,
        "context_dim": 768,
    },
    "SDXL": {
        "channel_mult": (1, 2, 4),
        "num_res_blocks": [2, 2, 2],
        "transformer_depth": [0, 0, 2, 2, 10, 10],
        "transformer_depth_middle": 10,
        "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
        "num_heads": -1,
        "num_head_channels": 64,
        "context_dim": 2048,
        "use_linear_in_transformer": True,
        "num_classes": "sequential",
        "adm_in_channels": 2816,
    },
}
HALF = {"dtype": torch.float16, "device": "meta"}


class Allocations(TorchDispatchMode):
    """While it is entered, counts the bytes of all tensors that operations make, until they are let go of.

    ``peak``: the most at once; ``peak_marked``: the most while ``marked`` was set. ``ignored`` and what shares their memory do not
    count. What operations use inside themselves is not seen.
    """

    def __init__(self, ignored=()):
        super().__init__()
        self.ignored = {tensor.untyped_storage()._cdata for tensor in ignored}
        self.alive: dict[int, tuple[StorageWeakRef, int]] = {}
        self.marked = False
        self.peak = self.peak_marked = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in self.ignored:
                    self.alive[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        self.alive = {key: entry for key, entry in self.alive.items() if not entry[0].expired()}
        total = sum(size for _, size in self.alive.values())
        self.peak = max(self.peak, total)
        if self.marked:
            self.peak_marked = max(self.peak_marked, total)
        return made


class Animated:
    """A UNet of ``family`` in half precision with a motion model in it (``motion``), laid out without any memory."""

    def __init__(self, pack, family: str, motion: bool = True):
        import comfy.ops
        from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

        self.pack, self.family = pack, family
        self.injection = pack.submodule("motion_models.network.injection")
        temporal = pack.submodule("motion_models.network.temporal")
        with torch.device("meta"):
            self.unet = UNetModel(
                image_size=32,
                in_channels=4,
                out_channels=4,
                model_channels=320,
                use_spatial_transformer=True,
                legacy=False,
                dtype=torch.float16,
                operations=comfy.ops.manual_cast,
                **UNETS[family],
            ).requires_grad_(False)
            self.spec = pack.submodule("training.motion_module").new_spec("counted", "v2", self.unet)
            self.motion = temporal.MotionModel(self.spec, torch.float16).requires_grad_(False)
        for module in self.motion.modules():
            if isinstance(module, temporal.TemporalAttention):
                module.attend = lambda q, k, v, heads: torch.empty_like(q)  # as flash attention: no attention map
        if motion:
            self.injection.inject(self.unet, [self.motion])

    def count(self, frames: int, clips: int, height: int, width: int, inputs=None, joint: bool = False) -> Allocations:
        """One call of ``clips`` clips with latents of this size. ``inputs``: MotionInputs. ``joint``: group norms as v1 has."""
        call = self.pack.submodule("motion_models.network.call")
        options = {
            "cond_or_uncond": list(range(clips)),
            "patches": {"forward_timestep_embed_patch": [(self.injection.MotionSlot, self.injection.run_slot)]},
            call.CALL_KEY: call.MotionCall((inputs or call.MotionInputs(),), frames),
            "optimized_attention_override": lambda function, q, *args, **kwargs: torch.empty_like(q),
        }
        rows, config = clips * frames, UNETS[self.family]
        given = {
            "x": torch.empty(rows, 4, height, width, **HALF),
            "timesteps": torch.empty(rows, device="meta"),
            "context": torch.empty(rows, 77, config["context_dim"], **HALF),
        }
        if "adm_in_channels" in config:
            given["y"] = torch.empty(rows, config["adm_in_channels"], **HALF)
        weights = [tensor for network in (self.unet, self.motion) for tensor in network.state_dict().values()]
        counted = Allocations([*weights, *given.values()])
        hooks = []
        for slot in self.injection.slots(self.unet):
            hooks.append(slot.register_forward_pre_hook(lambda *_: setattr(counted, "marked", True)))
            hooks.append(slot.register_forward_hook(lambda *_: setattr(counted, "marked", False)))
        norms = self.pack.submodule("motion_models.network.group_norm").joint_group_norm
        try:
            with torch.no_grad(), norms(self.unet, frames) if joint else nullcontext(), counted:
                self.unet(**given, transformer_options=options)
        finally:
            for hook in hooks:
                hook.remove()
        return counted

    def all_inputs(self, frames: int, height: int, width: int):
        """MotionInputs with masks, a camera whose strength is a mask, and features ahead of each module that goes down."""
        call = self.pack.submodule("motion_models.network.call")
        features = self.pack.submodule("motion_models.network.features").FrameFeatures
        masks = self.pack.submodule("motion_models.network.strength").FrameMask
        camera = self.pack.submodule("motion_models.adapters.camera_control")

        def mask():
            return masks(torch.empty(frames, height, width, device="meta"), frames)

        levels = [
            features(torch.empty(frames, channels, -(-height // 2**level), -(-width // 2**level), **HALF))
            for level, channels in enumerate(self.spec.levels)
        ]
        with torch.device("meta"):
            merges = {
                name: call.Merge(torch.nn.Linear(channels, channels, dtype=torch.float16), levels[level], mask())
                for name, (level, channels) in camera.merging_attentions(self.spec).items()
            }
        ahead = {f"down_blocks.{level}.motion_modules.1": features for level, features in enumerate(levels)}
        effect = call.ModuleInputs((mask(), mask()), mask())
        return call.MotionInputs(effect, merges=merges, ahead=ahead)


def estimate(family: str, rows: int, height: int, width: int) -> float:
    """Bytes that the host reckons for a batch of ``rows`` in half precision, by the lower of its two formulas (flash attention)."""
    import comfy.model_base
    import comfy.model_management
    import comfy.supported_models

    model = SimpleNamespace(
        memory_usage_factor=getattr(comfy.supported_models, family).memory_usage_factor,
        memory_usage_factor_conds=(),
        memory_usage_shape_process={},
        manual_cast_dtype=None,
        get_dtype=lambda: torch.float16,
        get_dtype_inference=lambda: torch.float16,
    )
    with mock.patch.object(comfy.model_management, "xformers_enabled", return_value=True):
        return comfy.model_base.BaseModel.memory_required(model, [rows, 4, height, width])
