"""How much memory training a MotionLoRA takes on a graphics card, by counting: `nox -s benchmark -- training_memory`.

SD1.5 with a v2 motion model is laid out without any memory (PyTorch's meta device), one training step is made, and the
bytes of all tensors are counted that are there at once. Options: --size 256 --frames 16 --rank 16 --batch 1.
"""

import argparse
import sys
import weakref
from collections.abc import Iterable
from contextlib import nullcontext
from itertools import chain
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "dev"))
import hosts
from pack import load_pack

BYTES = 2  # of a bf16 number
GIB = 2**30
# With every layer checkpointed whole, activations took so much (size, frames, rank, batch as below).
MEASURED, LIMIT = (256, 16, 16, 1), 0.742


class Live(TorchDispatchMode):
    """Counts the bytes of all tensors that are made inside of it and still there, and remembers the most.

    Not those of ``before``, which operations return anew, as views.
    """

    def __init__(self, before: Iterable[torch.Tensor]):
        super().__init__()
        self.now = self.peak = 0
        self.known = {tensor.untyped_storage()._cdata: None for tensor in before}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        tree_map_only(torch.Tensor, self.count, result)
        return result

    def count(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage._cdata in self.known:
            return
        size = storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)
        key = storage._cdata

        def gone(_):
            self.now -= size
            del self.known[key]

        self.known[key] = weakref.ref(storage, gone)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=256, help="pixels on each side")
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--batch", type=int, default=1, help="clips per step")
    return parser.parse_args()


def main() -> None:
    options = parse()
    pack = load_pack(hosts.host().path, ["--cpu"])

    import comfy.ops
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    checkpointed = pack.submodule("motion_models.network.checkpointing").checkpointed
    call = pack.submodule("motion_models.network.call")
    injection = pack.submodule("motion_models.network.injection")
    temporal = pack.submodule("motion_models.network.temporal")
    motion_module = pack.submodule("training.motion_module")

    class CountedAttention(torch.autograd.Function):
        """Keeps what flash attention keeps: queries, keys, values and the result, but no attention map."""

        @staticmethod
        def forward(context, q, k, v):
            result = torch.empty_like(q)
            context.save_for_backward(q, k, v, result)
            return result

        @staticmethod
        def backward(context, gradient):
            q, k, v, _ = context.saved_tensors
            return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)

    def attention(_function, q, k, v, *_args, **_kwargs):
        return CountedAttention.apply(q, k, v)

    with torch.device("meta"):
        unet = UNetModel(
            image_size=32,
            in_channels=4,
            out_channels=4,
            model_channels=320,
            channel_mult=(1, 2, 4, 4),
            num_res_blocks=[2, 2, 2, 2],
            transformer_depth=[1, 1, 1, 1, 1, 1, 0, 0],
            transformer_depth_middle=1,
            transformer_depth_output=[1] * 9 + [0] * 3,
            num_heads=8,
            use_spatial_transformer=True,
            context_dim=768,
            legacy=False,
            dtype=torch.bfloat16,
            operations=comfy.ops.manual_cast,
        ).requires_grad_(False)
        motion = temporal.MotionModel(motion_module.new_spec("v2", "v2", unet), torch.bfloat16).requires_grad_(False)
        pairs = {
            name: tuple(
                torch.nn.Parameter(torch.empty(shape))
                for shape in ((options.rank, layer.in_features), (layer.out_features, options.rank))
            )
            for name, layer in motion.projections()
        }
    for module in motion.modules():
        if isinstance(module, temporal.TemporalAttention):
            module.attend = lambda q, k, v, heads: CountedAttention.apply(q, k, v)
    texts = pack.submodule("training.texts").TextOfClips(unet)
    injection.inject(unet, [motion])

    batch, size = options.batch * options.frames, options.size // 8
    low_rank = {name: (call.LowRank(*pair),) for name, pair in pairs.items()}
    transformer_options = {
        "cond_or_uncond": [0] * options.batch,
        "patches": {"forward_timestep_embed_patch": [(injection.MotionSlot, injection.run_slot)]},
        call.CALL_KEY: call.MotionCall((call.MotionInputs(low_rank=low_rank),), options.frames),
        "optimized_attention_override": attention,
    }
    meta = {"device": "meta", "dtype": torch.bfloat16}

    def activations(checkpointing: bool) -> int:
        """The most bytes that one step's tensors take at once, beside the weights: forward, backward and what is computed again."""
        live = Live(chain(unet.parameters(), motion.parameters(), motion.buffers(), *pairs.values()))
        with live, checkpointed(unet, but_last=True) if checkpointing else nullcontext():
            context = torch.empty(batch, 77, 768, **meta)
            texts.announce(context, options.frames)
            result = unet(
                torch.empty(batch, 4, size, size, **meta),
                torch.empty(batch, device="meta"),
                context=context,
                transformer_options=transformer_options,
            )
            result.float().square().mean().backward()
        for pair in pairs.values():
            for half in pair:
                half.grad = None
        return live.peak

    weights = sum(p.numel() for model in (unet, motion) for p in model.parameters()) * BYTES
    trained = sum(half.numel() for pair in pairs.values() for half in pair)
    # float32: the weight, AdamW's two averages, and the weight before the last step; gradients count as activations
    optimizer = trained * 4 * 4
    with_it, without = activations(True), activations(False)
    print(f"SD1.5 + v2 motion model, {options.frames} frames of {options.size} px, batch {options.batch}, bf16")
    print(f"  frozen weights                     {weights / GIB:6.2f} GiB")
    print(
        f"  MotionLoRA of rank {options.rank:<4}, AdamW, copy {optimizer / GIB:6.2f} GiB ({trained / 1e6:.1f} M parameters)"
    )
    print(f"  activations, checkpointing on      {with_it / GIB:6.2f} GiB")
    print(f"  activations, checkpointing off     {without / GIB:6.2f} GiB")
    fixed = weights + optimizer
    print(
        f"  sum                                {(fixed + with_it) / GIB:6.2f} GiB, without {(fixed + without) / GIB:.2f} GiB"
    )
    if (options.size, options.frames, options.rank, options.batch) == MEASURED:
        print(f"figure training_activations_gb {with_it / GIB:.3f} {LIMIT}")
    print("Counted, not measured: the allocator's fragmentation, workspaces and the desktop come on top.")


if __name__ == "__main__":
    main()
