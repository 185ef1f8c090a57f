"""How much memory training a MotionLoRA takes on a graphics card, by counting: `nox -s benchmark -- training_memory`.

SD1.5 with a v2 motion model is laid out without any memory (PyTorch's meta device), one training step is recorded,
and what autograd would keep is summed, layer by layer. Options: --size 256 --frames 16 --rank 16 --batch 1.
"""

import argparse
import sys
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "dev"))
import hosts
from pack import load_pack

BYTES = 2  # of a bf16 number
GB = 2**30


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
    import torch
    from comfy.ldm.modules.attention import SpatialTransformer
    from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock, UNetModel

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
    injection.inject(unet, [motion])

    layers = (ResBlock, SpatialTransformer, injection.MotionSlot)
    current, kept, inputs, seen = ["rest"], defaultdict(int), {}, set()

    def enter(layer, arguments):
        current.append(f"{type(layer).__name__} {id(layer)}")
        x = arguments[0]
        if x.requires_grad:
            inputs[current[-1]] = x.numel() * BYTES

    def leave(*_):
        current.pop()

    def count(tensor):
        storage = tensor.untyped_storage()._cdata
        if storage not in seen and not isinstance(tensor, torch.nn.Parameter):
            seen.add(storage)
            alive.append(tensor)  # so that no other tensor takes the place of this one's storage
            kept[current[-1]] += tensor.numel() * tensor.element_size()
        return tensor

    alive = []
    for module in unet.modules():
        if isinstance(module, layers):
            module.register_forward_pre_hook(enter)
            module.register_forward_hook(leave)

    batch, size = options.batch * options.frames, options.size // 8
    low_rank = {name: (call.LowRank(*pair),) for name, pair in pairs.items()}
    transformer_options = {
        "cond_or_uncond": [0] * options.batch,
        "patches": {"forward_timestep_embed_patch": [(injection.MotionSlot, injection.run_slot)]},
        call.CALL_KEY: call.MotionCall((call.MotionInputs(low_rank=low_rank),), options.frames),
        "optimized_attention_override": attention,
    }
    meta = {"device": "meta", "dtype": torch.bfloat16}
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        unet(
            torch.empty(batch, 4, size, size, **meta),
            torch.empty(batch, device="meta"),
            context=torch.empty(batch, 77, 768, **meta),
            transformer_options=transformer_options,
        )

    weights = sum(p.numel() for model in (unet, motion) for p in model.parameters()) * BYTES
    trained = sum(half.numel() for pair in pairs.values() for half in pair)
    # float32: the weight, its gradient, AdamW's two averages, and the weight before the last step
    optimizer = trained * 4 * 5
    everything = sum(kept.values())
    checkpointed = sum(inputs.values()) + max(kept.values())
    print(f"SD1.5 + v2 motion model, {options.frames} frames of {options.size} px, batch {options.batch}, bf16")
    print(f"  frozen weights                     {weights / GB:6.2f} GB")
    print(
        f"  MotionLoRA of rank {options.rank:<4}, AdamW, copy {optimizer / GB:6.2f} GB ({trained / 1e6:.1f} M parameters)"
    )
    print(f"  activations, checkpointing on      {checkpointed / GB:6.2f} GB")
    print(f"  activations, checkpointing off     {everything / GB:6.2f} GB")
    fixed = weights + optimizer
    print(
        f"  sum                                {(fixed + checkpointed) / GB:6.2f} GB, without {(fixed + everything) / GB:.2f} GB"
    )
    print("Counted, not measured: the allocator's fragmentation, workspaces and the desktop come on top.")


if __name__ == "__main__":
    main()
