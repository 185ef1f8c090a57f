"""ContextRef against the same attention and statistics by hand, in float64, from hooks on the UNet's layers."""

from __future__ import annotations

import contextlib

import pytest
import torch

SIZE = 8


def clip_noise(frames: int) -> torch.Tensor:
    return torch.randn(frames, 4, SIZE, SIZE, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def parts(pack):
    names = ("context_ref", "context_ref_in_run", "extras", "modes", "naive_reuse", "unet_blocks", "reference")
    return {name: pack.submodule(f"sampling.context_extras.{name}") for name in names}


@pytest.fixture
def referring(pack, parts, new_model, new_motion, layouts):
    """`referring(schedule, length, overlap, layout=…, tune=…, mode=…, …)`: a MODEL with windows and ContextRef in all steps.

    Without a schedule no windows, with `plain` no extras.
    """
    schedules, context = pack.submodule("sampling.windows.schedules"), pack.submodule("sampling.windows.context")
    motion, animate = pack.submodule("sampling.motion.applied"), pack.submodule("sampling.evolved").animate
    models = {}

    def make(
        schedule=None, length=4, overlap=0, layout="unusual", plain=False, model=None, stride=1, moving=True, **asked
    ):
        if layout not in models:
            models[layout] = new_model(layouts[layout]), new_motion(layouts[layout], name=layout)
        base, motion_model = models[layout]
        contexts = ()
        if schedule is not None:
            options = schedules.WindowOptions(schedule.removeprefix("shared "), length, overlap, stride)
            contexts = (context.Context(options, "flat"),)
            if schedule.startswith("shared "):
                views = context.ViewOptions(options, "flat", shared=True)
                contexts = (
                    context.Context(schedules.WindowOptions("view_as_context", 0), "flat", views=views, chunk=3),
                )
            if not plain:
                asked = parts["context_ref"].ContextRef(**{"end_percent": 1.0, **asked})
                contexts = context.with_extras(contexts, parts["extras"].ContextExtras(context_ref=asked))
        applied = motion.apply(motion_model, motion.MotionSettings()) if moving else ()
        return animate(model or base, applied, "autoselect", contexts)

    return make


class Oracle:
    """One window after the other through the UNet without windows; the layers named look at what they were told to keep."""

    def __init__(self, unet, tune, strength=1.0, sdxl=False, layers=(), blocks=()):
        power = 3 if sdxl else 1
        self.attention = tune.attn_strength * strength, tune.attn_style_fidelity**power
        self.statistics = tune.adain_strength * strength, tune.adain_style_fidelity**power
        self.unet, self.layers, self.blocks = unet, layers, blocks
        self.kept, self.reads, self.writes, self.conds = {}, False, False, []

    @contextlib.contextmanager
    def window(self, reads: bool, writes: bool):
        self.reads, self.writes = reads, writes
        hooks = [
            self.unet.register_forward_pre_hook(self._conds, with_kwargs=True),
            *(attn.register_forward_hook(self._attention, with_kwargs=True) for attn in self.layers),
            *(block.register_forward_hook(self._adain) for block in self.blocks),
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _conds(self, unet, args, kwargs):
        options = kwargs.get("transformer_options") or args[-1]
        self.conds = options["cond_or_uncond"]

    def _rows(self, tensor):
        return zip(self.conds, tensor.double().chunk(len(self.conds)), strict=True)

    def _attention(self, attn, args, kwargs, output):
        def computed(n, seen):
            q, k, v = (
                torch.nn.functional.linear(x, layer.weight.double())
                for x, layer in ((n, attn.to_q), (seen, attn.to_k), (seen, attn.to_v))
            )
            q, k, v = (x.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for x in (q, k, v))
            weights = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)
            out = attn.to_out[0]
            mixed = (weights @ v).transpose(1, 2).flatten(-2)
            return torch.nn.functional.linear(mixed, out.weight.double(), out.bias.double())

        strength, fidelity = self.attention
        found = []
        for cond, n in self._rows(args[0]):
            plain, looking = computed(n, n), None
            if self.reads:
                bank = self.kept[attn, cond]
                bank = bank[[i % len(bank) for i in range(len(n))]]
                looking = computed(n, torch.cat([n, bank * strength + n * (1 - strength)], dim=1))
            share = fidelity if cond == 1 else 0.0
            found.append(plain if looking is None else share * plain + (1 - share) * looking)
            if self.writes:
                self.kept[attn, cond] = n
        return torch.cat(found).to(output.dtype)

    def _adain(self, block, args, output):
        strength, fidelity = self.statistics
        found = []
        for cond, h in self._rows(output):
            mean, deviation = (
                h.mean((2, 3), keepdim=True),
                h.var((2, 3), keepdim=True, correction=0).clamp(min=1e-6).sqrt(),
            )
            changed = h
            if self.reads:
                other_mean, other_deviation = (x[[i % len(x) for i in range(len(h))]] for x in self.kept[block, cond])
                share = strength * (1 - fidelity if cond == 1 else 1)
                changed = h + share * ((h - mean) / deviation * other_deviation + other_mean - h)
            found.append(changed)
            if self.writes:
                self.kept[block, cond] = mean, deviation
        return torch.cat(found).to(output.dtype)


def by_hand(oracle, model, sample, windows, states, **options):
    """The clip of windows side by side."""
    clips = []
    for window, state in zip(windows, states, strict=True):
        with oracle.window("read" in state, "write" in state):
            clips.append(sample(model, noise=clip_noise(window[-1] + 1)[window], **options))
    return torch.cat(clips)


def error(found, expected) -> float:
    return ((found - expected).norm() / expected.norm()).item()


def attention_layers(unet) -> list:
    return [module for name, module in unet.named_modules() if name.endswith("attn1") and "transformer_blocks" in name]


SIDE_BY_SIDE = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
TUNES = {"full": (1.0, 1.0, 1.0), "part strength": (0.4, 1.0, 0.7), "negative too": (0.0, 1.0, 1.0)}


@pytest.mark.parametrize("tune", TUNES.values(), ids=TUNES)
@pytest.mark.parametrize("states", [("write", "read", "read"), ("write", "read_write", "read_write")])
def test_self_attention_looks_at_another_window(referring, parts, sample, tune, states):
    """One step, so that nothing but the attention may differ; the last window is shorter."""
    fidelity, weight, strength = tune
    tuned = parts["context_ref"].Tune(fidelity, weight, strength)
    mode = parts["modes"].Sliding(2) if "read_write" in states else parts["modes"].First()
    found = sample(referring("batched", tune=tuned, mode=mode), noise=clip_noise(10), steps=1)
    model = referring()
    unet = model.model.diffusion_model
    oracle = Oracle(unet, tuned, layers=attention_layers(unet))
    expected = by_hand(oracle, model, sample, SIDE_BY_SIDE, states, steps=1)
    assert error(found, expected) < 2e-5
    assert error(found, sample(referring("batched", plain=True), noise=clip_noise(10), steps=1)) > 1e-3


@pytest.mark.parametrize("mode", [None, "sliding"])
@pytest.mark.parametrize("tune", [(0.4, 1.0, 0.8, 0.4, 1.0, 0.6), (1.0, 0.5, 1.0, 1.0, 0.0, 0.0)])
def test_shared_windows_look_at_each_other_as_windows_do_that_are_computed_one_by_one(
    referring, parts, sample, tune, mode
):
    """Without overlap both are clips of their own."""
    asked = {"tune": parts["context_ref"].Tune(*tune), "layout": "SD1.5"}
    asked |= {"mode": parts["modes"].Sliding(2)} if mode else {}
    noise = clip_noise(10)
    one_by_one = sample(referring("batched", **asked), noise=noise, steps=2)
    together = sample(referring("shared batched", **asked), noise=noise, steps=2)
    assert error(together, one_by_one) < 2e-5
    assert error(together, sample(referring("shared batched", plain=True, **asked), noise=noise, steps=2)) > 1e-3


def test_on_several_steps(referring, parts, sample):
    tuned = parts["context_ref"].Tune(0.3, 1.0, 0.8)
    found = sample(referring("batched", tune=tuned), noise=clip_noise(8), steps=1, cfg=3.0)
    # each step begins with what the first window is in that step: by hand one step at a time
    model = referring()
    unet = model.model.diffusion_model
    oracle = Oracle(unet, tuned, layers=attention_layers(unet))
    expected = by_hand(oracle, model, sample, SIDE_BY_SIDE[:2], ("write", "read"), steps=1, cfg=3.0)
    assert error(found, expected) < 2e-5


def test_the_weight_says_in_how_many_layers_the_widest_first(referring, parts, new_model, sample, layouts):
    """SD1.5's 16 layers: at 0.5 the eight widest, which are those of 128 channels, then of 64 in the order of the UNet."""
    unet = new_model(layouts["SD1.5"]).model.diffusion_model
    found = parts["unet_blocks"].attention_blocks(unet, 0.5)
    widest = {("input", 7, 0), ("input", 8, 0), ("middle", 0, 0), ("output", 3, 0), ("output", 4, 0), ("output", 5, 0)}
    assert found == widest | {("input", 4, 0), ("input", 5, 0)}
    assert len(parts["unet_blocks"].attention_blocks(unet, 1.0)) == 16
    assert not parts["unet_blocks"].attention_blocks(unet, 0.0)
    tuned = parts["context_ref"].Tune(1.0, 0.5, 1.0)
    clip = sample(referring("batched", layout="SD1.5", tune=tuned), noise=clip_noise(8), steps=1)
    model = referring(layout="SD1.5")
    unet = model.model.diffusion_model
    blocks = {"input": unet.input_blocks, "middle": [unet.middle_block], "output": unet.output_blocks}
    layers = [
        next(layer for layer in blocks[part][number] if hasattr(layer, "transformer_blocks"))
        .transformer_blocks[i]
        .attn1
        for part, number, i in found
    ]
    oracle = Oracle(unet, tuned, layers=layers)
    assert error(clip, by_hand(oracle, model, sample, SIDE_BY_SIDE[:2], ("write", "read"), steps=1)) < 2e-5


@pytest.mark.parametrize("tune", [(1.0, 1.0, 1.0), (0.4, 0.5, 0.6)])
def test_statistics_become_those_of_another_window(referring, parts, sample, tune):
    """By hand behind the last layer of each block; without a motion model, whose layers come behind that."""
    tuned = parts["context_ref"].Tune(1.0, 0.0, 0.0, *tune)
    one = {"layout": "SD1.5", "moving": False}
    found = sample(referring("batched", tune=tuned, **one), noise=clip_noise(10), steps=1)
    model = referring(**one)
    unet = model.model.diffusion_model
    # of 12 input blocks 2(1 - i/12) and of 12 output blocks 2i/12 have to lie below the weight
    inputs, outputs = ((7, 8, 10, 11), range(6)) if tune[1] == 1.0 else ((10, 11), range(3))
    blocks = [unet.middle_block, *(unet.input_blocks[i] for i in inputs), *(unet.output_blocks[i] for i in outputs)]
    oracle = Oracle(unet, tuned, blocks=[block[-1] for block in blocks])
    expected = by_hand(oracle, model, sample, SIDE_BY_SIDE, ("write", "read", "read"), steps=1)
    assert error(found, expected) < 2e-5
    assert error(found, sample(referring("batched", plain=True, **one), noise=clip_noise(10), steps=1)) > 1e-3


def test_blocks_with_statistics(parts, new_model, new_sdxl_model, layouts):
    unet = new_model(layouts["SD1.5"]).model.diffusion_model
    blocks = parts["unet_blocks"].statistics_blocks
    everything = {("middle", 0), *(("input", i) for i in (7, 8, 10, 11)), *(("output", i) for i in range(6))}
    assert blocks(unet, 1.0, sdxl=False) == everything
    assert blocks(unet, 0.01, sdxl=False) == {("middle", 0), ("output", 0)}
    assert not blocks(unet, 0.0, sdxl=False)
    sdxl = new_sdxl_model(16).model.diffusion_model
    assert blocks(sdxl, 1.0, sdxl=True) == {
        ("middle", 0),
        *(("input", i) for i in (5, 7, 8)),
        *(("output", i) for i in range(5)),
    }


def test_fidelity_counts_cubed_in_sdxl(parts, new_sdxl_model):
    """0.5 is 0.125 there."""
    sdxl = new_sdxl_model(16)
    asked = parts["context_ref"].ContextRef(tune=parts["context_ref"].Tune(0.5, 1.0, 1.0, 0.5, 1.0, 1.0))
    now = parts["context_ref_in_run"]._at(parts["context_ref"].RefKeyframe(), asked, sdxl.model, 8)
    assert (now.attention.fidelity, now.statistics.fidelity) == (0.125, 0.125)


def test_a_mask_is_a_strength_for_each_frame_and_place(referring, parts, sample):
    """0 leaves a frame as it is, 1 is the whole strength; half of the picture is neither."""
    noise = clip_noise(8)
    mask = torch.ones(8, 1, 1)
    mask[5] = 0.0
    tuned = parts["context_ref"].Tune(1.0, 0.0, 0.0, 1.0, 1.0, 1.0)  # statistics: frames do not see each other there
    one = {"layout": "SD1.5", "tune": tuned}
    masked = sample(referring("batched", strength=mask, **one), noise=noise, steps=1)
    full = sample(referring("batched", **one), noise=noise, steps=1)
    plain = sample(referring("batched", layout="SD1.5", plain=True), noise=noise, steps=1)
    assert error(masked[:4], plain[:4]) < 1e-5
    assert error(masked[4:], full[4:]) > 1e-3
    assert error(masked[4:], plain[4:]) > 1e-3
    everywhere = sample(referring("batched", strength=torch.ones(1, 4, 4), **one), noise=noise, steps=1)
    assert error(everywhere, full) < 1e-5
    left = torch.zeros(1, SIZE, SIZE)
    left[:, :, : SIZE // 2] = 1.0
    attention = sample(referring("batched", strength=left), noise=noise, steps=1)
    whole = sample(referring("batched"), noise=noise, steps=1)
    assert error(attention, whole) > 1e-4
    assert error(attention, sample(referring("batched", plain=True), noise=noise, steps=1)) > 1e-4


@pytest.mark.parametrize("asked", ["strength", "tune", "range", "keyframe"])
def test_what_does_nothing_changes_no_bit(referring, parts, sample, asked):
    tune, keyframe = parts["context_ref"].Tune, parts["context_ref"].RefKeyframe
    nothing = {
        "strength": {"strength": 0.0},
        "tune": {"tune": tune(1.0, 0.0, 1.0, 1.0, 0.0, 1.0)},
        "range": {"end_percent": 0.0},
        "keyframe": {"keyframes": (keyframe(mult=0.0),)},
    }[asked]
    found = sample(referring("standard_static", 4, 2, **nothing), noise=clip_noise(8))
    assert torch.equal(found, sample(referring("standard_static", 4, 2, plain=True), noise=clip_noise(8)))


@pytest.mark.parametrize("schedule", ["standard_static", "standard_uniform", "looped_uniform", "batched"])
def test_a_run_does_not_see_the_one_before(referring, parts, sample, schedule):
    tuned = parts["context_ref"].Tune(0.5, 1.0, 1.0, 0.5, 1.0, 1.0)
    mode = parts["modes"].Indexes(frozenset({0, 5}))
    model = referring(schedule, 4, 1, layout="SD1.5", tune=tuned, mode=mode, stride=2)
    first = sample(model, noise=clip_noise(9), steps=2)
    other = sample(referring(schedule, 3, 1, layout="SD1.5"), noise=clip_noise(8), steps=2)
    plain = sample(referring(schedule, 4, 1, layout="SD1.5", plain=True, stride=2), noise=clip_noise(9), steps=2)
    assert torch.equal(sample(model, noise=clip_noise(9), steps=2), first)
    assert other.isfinite().all()
    assert error(first, plain) > 1e-4


def test_conds_one_by_one_are_as_together(referring, parts, sample, new_model, layouts):
    """What the host does where memory is short."""
    tuned = parts["context_ref"].Tune(0.3, 1.0, 1.0, 0.5, 1.0, 1.0)
    model = new_model(layouts["SD1.5"])
    together = sample(referring("standard_static", 4, 2, layout="SD1.5", tune=tuned, model=model), noise=clip_noise(8))
    model.model.memory_required = lambda *args, **kwargs: float("inf")
    calls = []
    alone = referring("standard_static", 4, 2, layout="SD1.5", tune=tuned, model=model)
    alone.set_model_unet_function_wrapper(
        lambda apply, given: calls.append(len(given["cond_or_uncond"])) or apply(given["input"], given["timestep"], **given["c"])
    )  # fmt: skip
    assert error(sample(alone, noise=clip_noise(8)), together) < 1e-5
    assert set(calls) == {1}


def test_features_are_kept_for_those_who_need_them_only(referring, parts, sample, monkeypatch):
    """At fidelity 1 none of the negative prompt; nothing behind the last window, nothing after the call."""
    kept, ended = [], []
    reference, in_call = parts["reference"].Reference, parts["context_ref_in_run"].RefInCall
    keep, end = reference.keep, in_call.end
    monkeypatch.setattr(
        reference, "keep", lambda self, cond, *args: kept.append((cond, len(self.kept))) or keep(self, cond, *args)
    )
    monkeypatch.setattr(in_call, "end", lambda self: end(self) or ended.append(len(self.attention.kept)))
    model = referring("standard_static", 4, 2, mode=parts["modes"].Sliding(2))
    layers = len(attention_layers(model.model.diffusion_model))
    sample(model, noise=clip_noise(8), steps=2)
    assert {cond for cond, _ in kept} == {(0, 0)}
    assert len(kept) == 2 * 2 * layers  # two of three windows in two steps
    assert max(count for _, count in kept) == layers  # one window's at a time
    assert ended == [0, 0]


def test_prompts_for_parts_of_the_picture(referring, parts, sample, new_cond):
    """The host copies a prompt's entry for the other prompt's area, with its uuid: each keeps features of its own."""
    model = referring("batched", tune=parts["context_ref"].Tune(attn_style_fidelity=0.0))

    def run(seed: int, model, cfg: float) -> torch.Tensor:
        conds = [new_cond(seed) + new_cond(seed + 1, area=(4, 4, 0, 0), strength=1.0), new_cond(2)]
        return sample(model, noise=clip_noise(8), conds=conds, steps=1, cfg=cfg)

    # at CFG 0 the negative alone counts, and nothing of the positive may get into it; at 1 it is not computed
    assert error(run(10, model, cfg=0.0), run(20, model, cfg=0.0)) < 1e-5
    assert error(run(10, model, cfg=1.00001), run(10, model, cfg=1.0)) < 1e-4
    assert error(run(10, model, cfg=1.0), run(10, referring("batched", plain=True), cfg=1.0)) > 1e-3


def test_the_negative_of_other_guiders_is_known(referring, parts, sample, positive, negative, new_cond):
    """Dual CFG asks for [negative, middle, positive]: with fidelity 1 the negative must stay as it is without ContextRef."""
    import comfy.samplers
    from comfy_extras.nodes_custom_sampler import Guider_DualCFG

    def run(model, cfg1, cfg2):
        guider = Guider_DualCFG(model)
        guider.set_conds(positive, new_cond(7), negative)
        guider.set_cfg(cfg1, cfg2)
        noise = clip_noise(8)
        sampler, sigmas = comfy.samplers.sampler_object("euler"), torch.tensor([14.6146, 0.0])
        with torch.inference_mode():
            return guider.sample(noise, torch.zeros_like(noise), sampler, sigmas, disable_pbar=True, seed=1)

    with_it, without = referring("batched"), referring("batched", plain=True)
    # both scales 0 leave the negative prediction alone
    assert error(run(with_it, 0.0, 0.0), run(without, 0.0, 0.0)) < 1e-5
    assert error(run(with_it, 1.0, 1.0), run(without, 1.0, 1.0)) > 1e-3


def test_other_nodes_on_self_attention(referring, sample):
    """Token merging goes with it, perturbed attention keeps its layer, tiles are refused."""
    import comfy_extras.nodes_hypertile as hypertile
    import comfy_extras.nodes_pag as pag
    import comfy_extras.nodes_tomesd as tomesd

    def put(node, model, **inputs):
        made = node.execute(model, **inputs) if hasattr(node, "execute") else node().patch(model, **inputs)
        return getattr(made, "result", made)[0]

    noise = clip_noise(8)
    model = referring("batched", layout="SD1.5")
    plain = referring("batched", layout="SD1.5", plain=True)
    for node, inputs in ((tomesd.TomePatchModel, {"ratio": 0.3}), (pag.PerturbedAttentionGuidance, {"scale": 3.0})):
        found = sample(put(node, model, **inputs), noise=noise, steps=1)
        assert error(found, sample(put(node, plain, **inputs), noise=noise, steps=1)) > 1e-3
        assert error(found, sample(model, noise=noise, steps=1)) > 1e-3
    tiles = put(hypertile.HyperTile, model, tile_size=32, swap_size=1, max_depth=0, scale_depth=False)
    big = torch.randn(8, 4, 16, 16, generator=torch.Generator().manual_seed(3))
    with pytest.raises(
        ValueError, match=r"ContextRef: another node on the MODEL cuts pictures into tiles.*Remove that node"
    ):
        sample(tiles, noise=big, steps=1)


def test_nodes_that_skip_unet_calls(referring, sample):
    from comfy_extras.nodes_easycache import EasyCacheNode, LazyCacheNode

    options = {"reuse_threshold": 0.2, "start_percent": 0.15, "end_percent": 0.95, "verbose": False}
    model = referring("batched")
    with pytest.raises(ValueError, match=r"EasyCache leaves out UNet calls.*Remove EasyCache"):
        sample(EasyCacheNode.execute(model, **options).result[0], noise=clip_noise(8))
    lazy = {**options, "reuse_threshold": 1e-9}
    found = sample(LazyCacheNode.execute(model, **lazy).result[0], noise=clip_noise(8))
    assert error(found, sample(model, noise=clip_noise(8))) < 1e-5


def test_a_unet_that_is_not_gone_through_is_told(referring, sample):
    """A cache of another pack that answers for the first window."""
    from comfy.patcher_extension import WrappersMP

    model = referring("batched")

    def skip(executor, *args, **kwargs):
        options = kwargs.get("transformer_options") or args[-1]
        return torch.zeros_like(args[0]) if options["ad_params"]["sub_idxs"][0] == 0 else executor(*args, **kwargs)

    model.add_wrapper(WrappersMP.DIFFUSION_MODEL, skip)
    with pytest.raises(ValueError, match=r"did not go through the whole UNet.*skips parts"):
        sample(model, noise=clip_noise(8))


@pytest.mark.parametrize("node_id", ["AnimateDiffUniCtrl", "AnimateDiffText2VideoZero"])
def test_nodes_that_take_self_attention_for_themselves(pack, referring, sample, node_id):
    """Refused before anything is computed; without windows ContextRef does not act, and they do."""
    nodes = {node.GET_SCHEMA().node_id: node for node in pack.submodule("nodes").NODES}
    inputs = {
        one.id: one.default
        for one in nodes[node_id].define_schema().inputs
        if getattr(one, "default", None) is not None
    }
    with pytest.raises(
        ValueError, match=r"ContextRef lets windows look at each other.*or ContextRef from the context extras"
    ):
        sample(nodes[node_id].execute(model=referring("batched"), **inputs).result[0], noise=clip_noise(8), steps=1)
    whole = nodes[node_id].execute(model=referring("batched", length=8), **inputs).result[0]
    assert sample(whole, noise=clip_noise(8), steps=1).isfinite().all()
