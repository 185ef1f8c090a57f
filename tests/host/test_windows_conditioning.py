"""Conditioning in windows, against windows that are sampled one by one as clips of their own and blended by hand."""

from __future__ import annotations

import dataclasses
import inspect
import logging
from collections.abc import Callable

import pytest
import torch

FRAMES, SIZE = 8, 8
SIGMAS = torch.tensor([14.6146, 3.0, 0.0])
LAYOUT = {  # the upper half of SD1.5's UNet
    "channel_mult": (1, 2),
    "num_res_blocks": [2, 2],
    "transformer_depth": [1, 1, 1, 1],
    "transformer_depth_output": [1, 1, 1, 1, 1, 1],
    "transformer_depth_middle": 1,
}
LATENT_SCALE = 0.18215  # between what the sampler works on and what it returns
STATIC = [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7]]
LOOPED = [[[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7]], [[4, 5, 6, 7], [6, 7, 0, 1], [0, 1, 2, 3]]]  # step 0, 1


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def randomised(module: torch.nn.Module, seed: int = 5) -> torch.nn.Module:
    """Weights that keep the size of what goes through."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        fan = parameter[0].numel() if parameter.ndim > 1 else 400
        parameter.data = 0.5 * torch.randn(parameter.shape, generator=generator) * fan**-0.5
    return module.eval().requires_grad_(False)


@pytest.fixture
def context(pack):
    windows, options = pack.submodule("sampling.windows.schedules"), pack.submodule("sampling.windows.context")

    def make(schedule="standard_static", length=4, overlap=2, fuse="pyramid", **changes):
        return options.Context(windows.WindowOptions(schedule, length, overlap), fuse, **changes)

    return make


@pytest.fixture
def animated(pack, new_model, new_motion):
    """`animated(*contexts, model=...)`: a MODEL with a tiny motion model."""
    motion, animate = pack.submodule("sampling.motion.applied"), pack.submodule("sampling.evolved").animate
    motion_model = new_motion(LAYOUT)

    def make(*contexts, model=None):
        applied = motion.apply(motion_model, motion.MotionSettings())
        return animate(model or new_model(LAYOUT), applied, "use existing", contexts)

    return make


def denoised(model, noise, sigma: float, conds: dict, cfg: float = 4.0, guide=None) -> torch.Tensor:
    """One step of the host's sampler from ``sigma`` to 0: the clip as the model sees it through the noise."""
    return run(model, noise, torch.tensor([sigma, 0.0]), conds, cfg, guide) * LATENT_SCALE


def run(model, noise, sigmas, conds: dict, cfg: float = 4.0, guide=None) -> torch.Tensor:
    import comfy.samplers

    guider = (guide or comfy.samplers.CFGGuider)(model)
    if guide is None:
        guider.set_cfg(cfg)
    guider.inner_set_conds(conds)
    sampler = comfy.samplers.sampler_object("euler")
    with torch.inference_mode():
        return guider.sample(noise, torch.zeros_like(noise), sampler, sigmas, disable_pbar=True, seed=3)


def blended_by_hand(model, noise, steps: list[list[list[int]]], conds_of: Callable, guide=None) -> torch.Tensor:
    """Euler's method with each step's clip put together from clips that were sampled from its windows alone."""
    x = noise * float((1 + SIGMAS[0] ** 2) ** 0.5)  # the host's noise at the highest sigma
    for sigma, following, windows in zip(SIGMAS[:-1].tolist(), SIGMAS[1:].tolist(), steps, strict=True):
        total, weights = torch.zeros_like(x), torch.zeros(len(x), 1, 1, 1)
        scale = float((1 + sigma**2) ** 0.5) if sigma == float(SIGMAS[0]) else sigma
        for window in windows:
            clip = denoised(model, x[window] / scale, sigma, conds_of(window), guide=guide)
            weight = torch.tensor([float(min(i + 1, len(window) - i)) for i in range(len(window))]).view(-1, 1, 1, 1)
            total[window] += clip * weight
            weights[window] += weight
        mean = total / weights
        x = x + (x - mean) / sigma * (following - sigma)
    return x / LATENT_SCALE


@pytest.fixture
def control_net(host_path):
    """A tiny ControlNet of the host with random weights. `hints` are pictures `(frames, 3, 64, 64)`."""
    import comfy.cldm.cldm
    import comfy.controlnet
    import comfy.ops

    network = randomised(
        comfy.cldm.cldm.ControlNet(
            image_size=8,
            in_channels=4,
            model_channels=32,
            hint_channels=3,
            num_heads=4,
            use_spatial_transformer=True,
            context_dim=16,
            legacy=False,
            operations=comfy.ops.disable_weight_init,
            **LAYOUT,
        )
    )
    for parameter in network.input_hint_block.parameters():
        parameter.data *= 4  # else eight random layers leave next to nothing of a hint
    cpu = torch.device("cpu")

    def make(hints, strength=1.0, percents=(0.0, 1.0), previous=None):
        control = comfy.controlnet.ControlNet(network, load_device=cpu)
        return control.copy().set_cond_hint(hints, strength, percents).set_previous_controlnet(previous)

    make.network = network
    return make


@pytest.fixture
def t2i_adapter(host_path):
    import comfy.controlnet
    from comfy.t2i_adapter.adapter import Adapter

    network = Adapter(cin=192, channels=[32, 64, 128, 128], nums_rb=2, ksize=1, sk=True, use_conv=False, xl=False)
    randomised(network)

    def make(hints, strength=1.0, previous=None):
        adapter = comfy.controlnet.T2IAdapter(network, network.input_channels, 8, "nearest-exact")
        return adapter.set_cond_hint(hints, strength).set_previous_controlnet(previous)

    return make


@pytest.fixture
def control_lora(control_net):
    import comfy.controlnet

    own = ("input_hint_block.", "zero_convs.", "middle_block_out.")
    weights = {key: value for key, value in control_net.network.state_dict().items() if key.startswith(own)}
    weights |= {
        "lora_controlnet": torch.tensor([]),
        "input_blocks.1.0.in_layers.2.up": random(32, 4, 1, 1) * 0.1,
        "input_blocks.1.0.in_layers.2.down": random(4, 32, 3, 3, seed=1) * 0.1,
    }
    return lambda hints: comfy.controlnet.ControlLora(weights).set_cond_hint(hints)


HINTS = random(FRAMES, 3, 64, 64, seed=20).sigmoid()
OTHER_HINTS = random(FRAMES, 3, 64, 64, seed=21).sigmoid()
MASKS = random(FRAMES, SIZE, SIZE, seed=22).sigmoid()


@pytest.fixture
def conditionings(new_cond, control_net, t2i_adapter, control_lora, gligen, weight_hook) -> dict[str, Callable]:
    """By name, a function from frames to a guider's conds: whatever has one entry per frame is cut by hand."""

    def pair(positive, negative=None) -> dict:
        return {"positive": positive, "negative": negative or new_cond(2)}

    def controlled(control) -> dict:
        return pair(new_cond(1, control=control), new_cond(2, control=control))

    def chained(window):
        last = control_net(OTHER_HINTS[window], strength=0.7)
        return controlled(t2i_adapter(HINTS[window], strength=0.8, previous=control_net(HINTS[:1], 0.5, previous=last)))

    def masked(window):
        masks = MASKS[window]
        return pair([*new_cond(1, mask=masks, mask_strength=1.0), *new_cond(4, mask=1 - masks, mask_strength=0.8)])

    def ranges(window):
        first = control_net(HINTS[window], percents=(0.0, 0.3))
        second = control_net(OTHER_HINTS[window], percents=(0.3, 1.0), previous=first)
        early, late = new_cond(1, control=second, end_percent=0.3), new_cond(4, start_percent=0.3)
        return pair([*early, *late], new_cond(2, control=first))

    def schedule(window):
        prompt = random(FRAMES, 7, 16, seed=30)
        return {"positive": [[prompt[window], {"pooled_output": None}]], "negative": [[prompt[window] * 0.5, {}]]}

    return {
        "ControlNet": lambda window: controlled(control_net(HINTS[window])),
        "ControlNet for the positive prompt": lambda window: pair(new_cond(1, control=control_net(HINTS[window]))),
        "one hint": lambda window: controlled(control_net(HINTS[:1])),
        "T2I-Adapter": lambda window: controlled(t2i_adapter(HINTS[window])),
        "control LoRA": lambda window: controlled(control_lora(HINTS[window])),
        "chain": chained,
        "mask": masked,
        "area": lambda window: pair([*new_cond(1, area=(4, 4, 2, 2), strength=1.0), *new_cond(4)]),
        "GLIGEN": lambda window: pair(new_cond(1, gligen=gligen)),
        "timestep ranges": ranges,
        "prompt schedule": schedule,
        "hooks": lambda window: pair([*new_cond(1, hooks=weight_hook(), strength=0.5), *new_cond(4)]),
    }


@pytest.fixture
def gligen(host_path):
    import comfy.gligen
    import comfy.model_patcher

    cpu = torch.device("cpu")
    widths = [32, 32, 64, 64, 64, 64, 64, 64, 32, 32, 32]
    fusers = [comfy.gligen.GatedSelfAttentionDense(width, 16, 4, width // 4) for width in widths]
    network = comfy.gligen.Gligen(fusers, comfy.gligen.PositionNet(16, 16), 16)
    patcher = comfy.model_patcher.ModelPatcher(randomised(network), cpu, cpu)
    return ("position", patcher, [(random(1, 16, seed=40), 4, 4, 1, 2)])


@pytest.fixture
def weight_hook(host_path):
    """A LoRA for one conditioning, which comes into force during the run. Anew each time: it keeps a state."""
    import comfy.hooks

    def make():
        hook = comfy.hooks.WeightHook(1.0, 0.0)
        change = random(32, 32, 1, 1, seed=41) * 0.1
        hook.weights = {"diffusion_model.input_blocks.1.1.proj_in.weight": ("diff", (change,))}
        hook.need_weight_init = False
        group = comfy.hooks.HookGroup()
        group.add(hook)
        keyframes = comfy.hooks.HookKeyframeGroup()
        keyframes.add(comfy.hooks.HookKeyframe(strength=0.2, start_percent=0.0))
        keyframes.add(comfy.hooks.HookKeyframe(strength=1.0, start_percent=0.3))
        group.set_keyframes_on_hooks(keyframes)
        return group

    return make


NAMES = [
    "ControlNet",
    "ControlNet for the positive prompt",
    "one hint",
    "T2I-Adapter",
    "control LoRA",
    "chain",
    "mask",
    "area",
    "GLIGEN",
    "timestep ranges",
    "prompt schedule",
    "hooks",
]


def check(windowed, plain, steps, conds_of, guide=None):
    noise = random(FRAMES, 4, SIZE, SIZE, seed=3)
    found = run(windowed, noise, SIGMAS, conds_of(list(range(FRAMES))), guide=guide)
    expected = blended_by_hand(plain, noise, steps, conds_of, guide)
    assert found.abs().max() < 1000  # numbers of a size at which a hint in the wrong place shows
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


@pytest.mark.parametrize("name", NAMES)
def test_each_window_gets_what_belongs_to_its_frames(animated, context, conditionings, name):
    check(animated(context()), animated(), [STATIC, STATIC], conditionings[name])


@pytest.mark.parametrize("name", ["ControlNet", "chain", "control LoRA", "mask", "timestep ranges"])
def test_windows_that_move_and_run_over_the_end(animated, context, conditionings, name):
    check(animated(context("looped_uniform")), animated(), LOOPED, conditionings[name])


@pytest.mark.parametrize("schedule", ["standard_static", "looped_uniform"])
@pytest.mark.parametrize("name", NAMES)
def test_windows_in_one_batch_get_each_what_belongs_to_its_frames(
    animated, context, new_model, conditionings, alike_in_one_batch, name, schedule
):
    base, noise = new_model(LAYOUT), random(FRAMES, 4, SIZE, SIZE, seed=3)

    def clip(model):
        return run(model, noise, SIGMAS, conditionings[name](list(range(FRAMES))))

    alike_in_one_batch(lambda contexts: animated(*contexts, model=base), clip, (context(schedule),), at_once=3)


@pytest.mark.parametrize("name", ["ControlNet", "chain", "control LoRA"])
def test_windows_of_contexts_that_follow_each_other(animated, context, conditionings, name):
    model = animated(context(), context("batched", 4, 0, start_percent=0.3))
    check(model, animated(), [STATIC, [[0, 1, 2, 3], [4, 5, 6, 7]]], conditionings[name])


@pytest.mark.parametrize("name", ["ControlNet", "T2I-Adapter", "control LoRA", "chain", "mask"])
def test_views_only(pack, animated, context, conditionings, name):
    """All frames go through the UNet, and its ControlNets, together; one view of them all changes nothing."""
    windows, options = pack.submodule("sampling.windows.schedules"), pack.submodule("sampling.windows.context")
    noise, conds = random(FRAMES, 4, SIZE, SIZE, seed=3), conditionings[name](list(range(FRAMES)))

    def clip(length: int):
        views = options.ViewOptions(
            windows.WindowOptions("standard_static", length, 0), "flat", use_on_equal_length=True
        )
        return run(animated(context("view_as_context", 0, 0, views=views)), noise, SIGMAS, conds)

    torch.testing.assert_close(clip(FRAMES), run(animated(), noise, SIGMAS, conds), rtol=1e-3, atol=1e-3)
    halves = clip(FRAMES // 2)
    assert not torch.allclose(halves, clip(FRAMES), rtol=1e-2, atol=1e-2)
    for half in (list(range(4)), list(range(4, 8))):  # views without overlap are clips of their own
        alone = run(animated(), noise[half], SIGMAS, conditionings[name](half))
        torch.testing.assert_close(halves[half], alone, rtol=1e-3, atol=1e-3 * float(alone.abs().max()))


@pytest.fixture
def shared(pack, context):
    """`shared(chunk)`: all frames in the UNet, in windows inside the motion model; spatial layers in chunks of frames."""
    options = pack.submodule("sampling.windows.context")
    windows = pack.submodule("sampling.windows.schedules").WindowOptions("standard_static", 4, 2)
    views = options.ViewOptions(windows, "pyramid", shared=True)
    return lambda chunk: context("view_as_context", 0, 0, views=views, chunk=chunk)


class InRam(torch.Tensor):
    """As a tensor on another device: what else is there cannot be computed with it."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        if function in (torch.Tensor.__iadd__, torch.Tensor.add_, torch.cat) and torch.Tensor in {
            type(one) for one in torch.utils._pytree.tree_leaves(args) if isinstance(one, torch.Tensor)
        }:
            raise RuntimeError("tensors on two devices")
        return super().__torch_function__(function, types, args, kwargs or {})


@pytest.mark.parametrize("name", ["ControlNet", "T2I-Adapter", "control LoRA", "chain", "prompt schedule"])
def test_skip_connections_in_ram(pack, animated, shared, conditionings, monkeypatch, name):
    skips, moved = pack.submodule("motion_models.network.skips"), []

    def to_device(x, device):
        moved.append(device is skips.RAM)
        return x.as_subclass(InRam if device is skips.RAM else torch.Tensor)

    monkeypatch.setattr(skips, "to_device", to_device)
    conds, noise = conditionings[name](list(range(FRAMES))), random(FRAMES, 4, SIZE, SIZE, seed=3)
    on_card = run(animated(shared(3)), noise, SIGMAS, conds)
    assert not moved
    in_ram = run(animated(dataclasses.replace(shared(3), skips_in_ram=True)), noise, SIGMAS, conds)
    assert sum(moved) >= len(moved) / 2 > 0
    assert torch.equal(in_ram, on_card)


def adapter_patch(n, context, value, options):
    """As image prompt packs do: features of the clip's frames, those of the call by "ad_params"."""
    features = random(FRAMES, 7, 16, seed=90)
    frames = options["ad_params"]["sub_idxs"]
    own = features[frames].repeat(len(options["cond_or_uncond"]), 1, 1)
    assert len(own) == len(n)
    return n, context + own, value + own


def from_before(x: torch.Tensor) -> torch.Tensor:
    """For each frame that of the one before, ``x (clips * frames, tokens, channels)``."""
    return x.unflatten(0, (-1, FRAMES)).roll(1, 1).flatten(0, 1)


@pytest.mark.parametrize(
    ("name", "apart"),
    [
        *((name, False) for name in (*NAMES, "image prompt", "self-attention over frames")),
        *((name, True) for name in ("ControlNet", "area", "hooks", "image prompt")),
    ],
)
def test_spatial_layers_in_chunks_of_frames(animated, shared, conditionings, monkeypatch, name, apart):
    """Equal to all frames at a time, in convolutions of at most three frames, and one cond after the other."""
    rows = []

    def clip(chunk: int):
        model = animated(shared(chunk))
        if name == "image prompt":
            model.set_model_attn2_patch(adapter_patch)
        if name == "self-attention over frames":
            model.set_model_attn1_patch(
                lambda n, context, value, options: (n, from_before(context), from_before(value))
            )
            model.model_options["transformer_options"]["animatediff_all_frames"] = True
        if apart:  # the host takes as many conds together as it reckons with memory for
            monkeypatch.setattr(model.model, "memory_required", lambda *args, **kwargs: 1e15)
        conv = model.model.diffusion_model.input_blocks[1][0].in_layers[2]
        handle = conv.register_forward_hook(lambda _, arguments, made: rows.append(len(arguments[0])))
        try:
            conds = conditionings.get(name, conditionings["prompt schedule"])(list(range(FRAMES)))
            return run(model, random(FRAMES, 4, SIZE, SIZE, seed=3), SIGMAS, conds)
        finally:
            handle.remove()

    chunked, in_chunks = clip(3), list(rows)
    rows.clear()
    whole = clip(FRAMES)
    assert max(rows) == FRAMES or not apart
    together = 2 if name == "mask" else 1  # entries of one cond
    assert max(in_chunks) == 3 * together and sum(in_chunks) == sum(rows)
    torch.testing.assert_close(chunked, whole, rtol=0, atol=1e-5 * float(whole.abs().max()))


def test_inpainting_models(animated, context, new_model, new_cond):
    base = new_model({**LAYOUT, "in_channels": 9})
    base.model.set_inpaint()
    pictures, masks = random(FRAMES, 4, SIZE, SIZE, seed=50), MASKS.unsqueeze(1).round()

    def conds_of(window):
        extra = {"concat_latent_image": pictures[window], "concat_mask": masks[window]}
        return {"positive": new_cond(1, **extra), "negative": new_cond(2, **extra)}

    check(animated(context(), model=base), animated(model=base), [STATIC, STATIC], conds_of)


def test_further_conds_of_a_guider(animated, context, new_cond, control_net):
    from comfy_extras.nodes_custom_sampler import Guider_DualCFG

    def guide(model):
        guider = Guider_DualCFG(model)
        guider.set_cfg(4.0, 2.0)
        return guider

    def conds_of(window):
        return {
            "positive": new_cond(1, control=control_net(HINTS[window])),
            "middle": new_cond(4, control=control_net(OTHER_HINTS[window]), mask=MASKS[window]),
            "negative": new_cond(2),
        }

    check(animated(context()), animated(), [STATIC, STATIC], conds_of, guide)


def test_a_second_run_is_like_the_first_and_leaves_the_nodes_objects_alone(animated, context, conditionings):
    model, noise = animated(context("looped_uniform")), random(FRAMES, 4, SIZE, SIZE, seed=3)
    conds = conditionings["chain"](list(range(FRAMES)))
    first = run(model, noise, SIGMAS, conds)
    control = conds["positive"][0][1]["control"]
    assert torch.equal(run(model, noise, SIGMAS, conds), first)
    assert conds["positive"][0][1]["control"] is control
    chain = []
    while control is not None:
        chain.append((len(control.cond_hint_original), control.cond_hint, control.timestep_range))
        control = control.previous_controlnet
    assert chain == [(FRAMES, None, None), (1, None, None), (FRAMES, None, None)]


def test_more_or_fewer_hints_than_frames_are_those_of_the_frames_in_every_window(pack, control_net):
    controls = pack.submodule("sampling.windows.conditioning").WindowedControls
    hints = torch.arange(6.0).view(6, 1, 1, 1)
    assert controls().for_window(control_net(hints), [5, 6, 7], 8).cond_hint_original.flatten().tolist() == [5, 0, 1]
    hints = torch.arange(12.0).view(12, 1, 1, 1)
    assert controls().for_window(control_net(hints), [6, 7, 0], 8).cond_hint_original.flatten().tolist() == [6, 7, 0]


def test_hints_of_windows_that_are_over_are_let_go_of(pack, control_net):
    controls = pack.submodule("sampling.windows.conditioning").WindowedControls()
    control = control_net(HINTS)

    def call(*starts):
        controls.next_call()
        return [controls.for_window(control, list(range(start, start + 4)), FRAMES) for start in starts]

    first = call(0, 4)
    assert call(0, 4) == first
    call(2, 3)
    controls.next_call()  # a call of another conditioning without ControlNet
    assert call(2)[0] in controls.used_before.get((id(control), (2, 3, 4, 5)))
    assert call(0)[0] is not first[0]


def test_what_the_host_prepares_anew_is_copied_anew(pack, control_net):
    """A second iteration in one run: the host cleans up and prepares ControlNets again."""
    controls = pack.submodule("sampling.windows.conditioning").WindowedControls()
    control = control_net(HINTS)
    control.timestep_range = (1.0, 0.0)
    first = controls.for_window(control, [0, 1], FRAMES)
    control.timestep_range = (1.0, 0.0)  # by pre_run
    control.timestep_range = tuple([1.0, 0.0])
    controls.next_call()
    again = controls.for_window(control, [0, 1], FRAMES)
    assert again is not first
    assert again.timestep_range is control.timestep_range


def test_copies_for_other_gpus_follow_the_window(pack, control_net):
    controls = pack.submodule("sampling.windows.conditioning").WindowedControls()
    hints = torch.arange(8.0).view(8, 1, 1, 1)
    gpu = torch.device("cuda", 1)
    control, before = control_net(hints), control_net(hints)
    for net in (before, control):
        net.multigpu_clones[gpu] = net.copy()
    control.set_previous_controlnet(before)
    control.multigpu_clones[gpu].set_previous_controlnet(before.multigpu_clones[gpu])
    there = controls.for_window(control, [3, 4], 8).get_instance_for_device(gpu)
    assert there.cond_hint_original.flatten().tolist() == [3, 4]
    assert there.previous_controlnet.cond_hint_original.flatten().tolist() == [3, 4]
    assert len(control.multigpu_clones[gpu].cond_hint_original) == 8


def conds_with(**options) -> dict:
    return {
        "positive": [{"cross_attn": torch.zeros(1, 7, 16)}],
        "negative": [{"cross_attn": torch.zeros(1, 7, 16), **options}],
    }


@pytest.mark.parametrize(
    ("options", "windowed", "said"),
    [
        (
            {"cross_attn": torch.zeros(24, 7, 16)},
            True,
            "The negative conditioning has 24 entries, but the clip has 32 frames: every",
        ),
        ({"cross_attn": torch.zeros(24, 7, 16)}, False, "from frame 24 on"),
        ({"cross_attn": torch.zeros(40, 7, 16)}, False, "the last 8 are not used"),
        ({"mask": torch.zeros(5, 8, 8)}, True, "conditioning's mask has 5 entries, but the clip has 32 frames"),
    ],
)
def test_a_batch_of_another_length_is_told_once(pack, caplog, options, windowed, said):
    conditioning = pack.submodule("sampling.windows.conditioning")
    with caplog.at_level(logging.WARNING):
        conditioning.warn_about_lengths(conds_with(**options), 32, windowed)
    [record] = caplog.records
    assert said in record.getMessage()
    assert "Give it 32 entries" in record.getMessage()


def test_lengths_that_fit_are_not_told(pack, caplog, control_net):
    conditioning = pack.submodule("sampling.windows.conditioning")
    conds = conds_with(mask=torch.zeros(8, 8), control=control_net(HINTS[:1], previous=control_net(HINTS)))
    conditioning.warn_about_lengths(conds, FRAMES, True)
    assert not caplog.records
    conditioning.warn_about_lengths(conds_with(control=control_net(HINTS, previous=control_net(HINTS[:1]))), 32, True)
    assert "The ControlNet of the negative conditioning has 8 pictures, but the clip has 32 frames" in caplog.text


def test_a_reader_of_ad_params_in_the_attention_sees_its_frames_on_every_call(animated, context, positive, negative):
    """As IPAdapter_plus does: it keeps one embedding per frame and takes those of the call's frames."""
    seen = []

    def patch(q, k, v, extra_options):
        params = extra_options["ad_params"]
        seen.append((params["sub_idxs"], params["full_length"], len(q) // len(extra_options["cond_or_uncond"])))
        return q, k, v

    noise, conds = random(FRAMES, 4, SIZE, SIZE, seed=3), {"positive": positive, "negative": negative}
    model = animated(context("looped_uniform"))
    model.set_model_attn2_patch(patch)
    run(model, noise, SIGMAS, conds)
    blocks = len(seen) // 6
    assert [frames for frames, _, _ in seen[::blocks]] == [window for step in LOOPED for window in step]
    assert {(full, frames) for _, full, frames in seen} == {(FRAMES, 4)}
    assert all(type(frames) is list and type(frames[0]) is int for frames, _, _ in seen)

    seen.clear()
    plain = animated()
    plain.set_model_attn2_patch(patch)
    run(plain, noise, SIGMAS, conds)
    assert {(frames, full, count) for frames, full, count in seen} == {(None, FRAMES, FRAMES)}


@pytest.mark.parametrize("cfg", [1.0, 4.0])
def test_controls_follow_the_hosts_own_windows(animated, new_cond, control_net, cfg):
    """The host cuts everything else of the conditioning, and gives every window the first pictures."""
    import comfy.context_windows

    # that fix would add a frame of the first window to the second one; releases before 0.24 have none
    handler = comfy.context_windows.IndexListContextHandler
    fix = {"causal_window_fix": False} if "causal_window_fix" in inspect.signature(handler).parameters else {}

    def conds_of(window):
        control = {"control": control_net(HINTS[window]), "control_apply_to_uncond": True}
        return {"positive": new_cond(1, **control), "negative": new_cond(2, **control)}

    windowed = animated().clone()
    windowed.model_options["context_handler"] = handler(
        context_schedule=comfy.context_windows.get_matching_context_schedule("standard_static"),
        fuse_method=comfy.context_windows.get_matching_fuse_method("flat"),
        context_length=4,
        context_overlap=0,
        dim=0,
        **fix,
    )
    noise = random(FRAMES, 4, SIZE, SIZE)
    halves = [[0, 1, 2, 3], [4, 5, 6, 7]]
    expected = torch.cat([run(animated(), noise[half], SIGMAS, conds_of(half), cfg) for half in halves])
    found = run(windowed, noise, SIGMAS, conds_of(list(range(FRAMES))), cfg)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    same = run(windowed, noise, SIGMAS, conds_of([0, 1, 2, 3, 0, 1, 2, 3]), cfg)
    assert (same - expected).norm() > 0.01 * expected.norm(), "the pictures do not count"
