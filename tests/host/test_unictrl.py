"""UniCtrl on a tiny UNet: attention against one computed here, windows, and what must not change."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture
def unictrl(pack):
    nodes = {node.GET_SCHEMA().node_id: node for node in pack.submodule("nodes").served()}

    def put_on(model, strength=1.0, motion_end_percent=1.0, start_percent=0.0, end_percent=1.0):
        return (
            nodes["AnimateDiffUniCtrl"]
            .execute(
                model=model,
                strength=strength,
                motion_end_percent=motion_end_percent,
                start_percent=start_percent,
                end_percent=end_percent,
            )
            .result[0]
        )

    return put_on


@pytest.fixture
def small(layouts, new_model, new_motion, animate):
    """An animated MODEL with the smallest of the UNets."""
    return animate(new_model(layouts["unusual"]), new_motion(layouts["unusual"]))


def watch(unet) -> tuple[dict[str, list[torch.Tensor]], dict[str, list[torch.Tensor]], list]:
    """What goes into and comes out of each spatial self-attention, call by call, by its name."""
    hidden, attended, handles = {}, {}, []
    for name, module in unet.named_modules():
        if name.endswith("transformer_blocks.0"):
            hidden[name], attended[name] = [], []
            handles.append(
                module.norm1.register_forward_hook(lambda _m, _i, out, n=name: hidden[n].append(out.clone()))
            )
            handles.append(
                module.attn1.register_forward_hook(lambda _m, _i, out, n=name: attended[n].append(out.clone()))
            )
    return hidden, attended, handles


def attention(block, queries, keys, values) -> torch.Tensor:
    """Multi-head attention in float64, from hidden states ``(frames, tokens, channels)``."""
    layer = block.attn1

    def heads(linear, x):
        return (x.double() @ linear.weight.double().T).unflatten(-1, (layer.heads, -1)).transpose(1, 2)

    q, k, v = heads(layer.to_q, queries), heads(layer.to_k, keys), heads(layer.to_v, values)
    out = ((q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1) @ v).transpose(1, 2).flatten(2)
    linear = layer.to_out[0]
    return out @ linear.weight.double().T + linear.bias.double()


def first_of(hidden: torch.Tensor, frames: int) -> torch.Tensor:
    """The first frame of each clip in the batch, for all of its frames."""
    clips = hidden.unflatten(0, (-1, frames))
    return clips[:, :1].expand_as(clips).flatten(0, 1)


@pytest.mark.parametrize("strength", [1.0, 0.3])
@pytest.mark.parametrize("motion", [1.0, 0.0], ids=["queries of the motion branch", "queries of its own"])
def test_frames_attend_to_the_first(new_model, new_motion, animate, sample, unictrl, strength, motion):
    model = unictrl(animate(new_model(), new_motion()), strength, motion)
    unet = model.model.diffusion_model
    hidden, attended, handles = watch(unet)
    sample(model, frames=4, steps=1)
    for handle in handles:
        handle.remove()
    branches = 2 if motion else 1
    blocks = dict(unet.named_modules())
    assert len(hidden) == 16
    for name, calls in hidden.items():
        assert len(calls) == branches
        own, queries = calls[-1], calls[0]
        if motion:
            plain = attention(blocks[name], queries, queries, queries)
            torch.testing.assert_close(attended[name][0].double(), plain, rtol=1e-4, atol=1e-4)
        source = own + strength * (first_of(own, 4) - own)
        expected = attention(blocks[name], queries, source, source)
        torch.testing.assert_close(attended[name][-1].double(), expected, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(expected, attention(blocks[name], own, own, own), atol=1e-3)


@pytest.mark.parametrize(
    "settings", [{"strength": 0.0}, {"start_percent": 1.0}, {"end_percent": 0.0}], ids=["0", "later", "earlier"]
)
def test_without_effect_clips_are_as_without_the_node(small, sample, unictrl, settings):
    assert torch.equal(sample(unictrl(small, **settings), denoise=0.9), sample(small, denoise=0.9))


def test_runs_one_after_another_do_not_see_each_other(small, sample, unictrl):
    model = small
    controlled = unictrl(model)
    plain, first = sample(model), sample(controlled)
    assert torch.equal(sample(model), plain)
    assert torch.equal(sample(controlled), first)
    assert not torch.allclose(first, plain, atol=1e-2)


def test_part_of_the_schedule(small, sample, unictrl):
    """From half on: the first step is as without it, the last is not."""
    model = small
    clips = {}
    for name, changed in {"plain": model, "half": unictrl(model, start_percent=0.5), "all": unictrl(model)}.items():
        clips[name] = [sample(changed, steps=4, last_step=last, force_full_denoise=False) for last in (1, 4)]
    assert torch.equal(clips["plain"][0], clips["half"][0])
    assert not torch.equal(clips["all"][0], clips["half"][0])
    assert not torch.equal(clips["plain"][1], clips["half"][1])


def test_one_call_or_two_for_positive_and_negative(small, sample, unictrl, monkeypatch):
    model = unictrl(small)
    together = sample(model, steps=1)
    monkeypatch.setattr(model.model, "memory_required", lambda *_args, **_kwargs: 1e30)
    calls = []
    model.set_model_unet_function_wrapper(
        lambda apply, a: calls.append(len(a["cond_or_uncond"])) or apply(a["input"], a["timestep"], **a["c"])
    )
    torch.testing.assert_close(sample(model, steps=1), together, rtol=1e-3, atol=1e-3)
    assert set(calls) == {1}


@pytest.mark.parametrize("own", [True, False], ids=["Context Options", "the host's Context Windows"])
def test_all_windows_attend_to_the_first_frame_of_the_clip(pack, new_model, new_motion, sample, unictrl, own):
    motion, evolved = pack.submodule("sampling.motion.applied"), pack.submodule("sampling.evolved")
    windows, context = pack.submodule("sampling.windows.schedules"), pack.submodule("sampling.windows.context")
    options = (context.Context(windows.WindowOptions("standard_static", 4, 2, 1, False), "flat"),) if own else ()
    applied = motion.apply(new_motion(), motion.MotionSettings())
    model = unictrl(evolved.animate(new_model(), applied, "autoselect", options), motion_end_percent=0.0)
    if not own:
        from comfy import context_windows

        model.model_options["context_handler"] = context_windows.IndexListContextHandler(
            context_windows.get_matching_context_schedule("standard_static"),
            context_windows.get_matching_fuse_method("flat"),
            context_length=4,
            context_overlap=2,
        )
        model.model_options["context_handler"].causal_window_fix = False
    unet = model.model.diffusion_model
    hidden, attended, handles = watch(unet)
    sample(model, frames=6, steps=5)  # as many as frames, less one: the oldest host's node fails with others
    for handle in handles:
        handle.remove()
    name = "output_blocks.8.1.transformer_blocks.0"
    block = dict(unet.named_modules())[name]
    first, second = hidden[name][:2]  # of the first step
    source = first_of(first, 4)
    torch.testing.assert_close(
        attended[name][0].double(), attention(block, first, source, source), rtol=1e-4, atol=1e-4
    )
    torch.testing.assert_close(
        attended[name][1].double(), attention(block, second, source, source), rtol=1e-4, atol=1e-4
    )


def test_patches_of_other_nodes_still_work(small, sample, unictrl):
    """One that replaces an attention gets the keys and values of the first frame; the MODEL keeps its own patches."""
    model = small
    seen = []
    model.set_model_attn1_replace(lambda q, k, v, options: seen.append(v.clone()) or v, "middle", 0)
    sample(unictrl(model), frames=4, steps=1)
    plain, controlled = seen  # of the motion branch and of the other
    clips = controlled.unflatten(0, (-1, 4))
    assert torch.equal(clips, clips[:, :1].expand_as(clips))
    assert not torch.equal(plain, controlled)
    assert "attn1_patch" not in model.model_options["transformer_options"]["patches"]


def test_control_nets_reach_both_branches(small, sample, unictrl):
    """The UNet empties the lists that it gets of a ControlNet."""
    from comfy.patcher_extension import WrappersMP

    model = unictrl(small)
    unet = model.model.diffusion_model

    def controlled(executor, x, t, c_concat=None, c_crossattn=None, control=None, transformer_options=None, **kwargs):
        return executor(x, t, c_concat, c_crossattn, {"middle": [torch.tensor(0.5)]}, transformer_options, **kwargs)

    model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "test", controlled)
    made, taken = [], []
    handles = [
        unet.middle_block[-1].register_forward_hook(lambda _m, _i, out: made.append(out.clone())),
        unet.output_blocks[0][0].register_forward_pre_hook(lambda _m, given: taken.append(given[0].clone())),
    ]
    sample(model, steps=1)
    for handle in handles:
        handle.remove()
    assert len(made) == len(taken) == 2
    for middle, given in zip(made, taken, strict=True):
        torch.testing.assert_close(given[:, : middle.shape[1]], middle + 0.5)


def test_compiled_models_are_refused(small, sample, unictrl):
    from comfy_extras.nodes_torch_compile import TorchCompileModel

    model = TorchCompileModel.execute(unictrl(small), "eager").result[0]
    with pytest.raises(ValueError, match="Take TorchCompileModel off the MODEL, or UniCtrl"):
        sample(model)


def test_easycache_is_refused(small, sample, unictrl):
    from comfy_extras.nodes_easycache import EasyCacheNode

    model = EasyCacheNode.execute(unictrl(small), 0.2, 0.15, 0.95, False).result[0]
    with pytest.raises(ValueError, match=r"Remove EasyCache .* or UniCtrl"):
        sample(model)
