"""Deprecated nodes for LoRA hooks and conditionings: what ComfyUI's own nodes give, and what hooks do to an animated clip."""

from __future__ import annotations

import logging
import os
import re

import pytest
import safetensors.torch
import torch

FRAMES, STEPS = 6, 6


@pytest.fixture
def nodes(pack):
    """Run a node of ours by its id: `nodes("ADE_CombineLoraHooks", lora_hook_A=hooks)` gives its outputs."""
    found = {node.GET_SCHEMA().node_id: node for node in pack.submodule("nodes").NODES}
    return lambda node_id, **inputs: found[node_id].execute(**inputs).result


@pytest.fixture
def core(host_path):
    """Run a node of ComfyUI by its id, as the server does."""
    from comfy_extras import nodes_hooks

    import nodes as host_nodes

    found = {**host_nodes.NODE_CLASS_MAPPINGS, **nodes_hooks.NODE_CLASS_MAPPINGS}

    def run(node_id: str, **inputs) -> tuple:
        return getattr(found[node_id](), found[node_id].FUNCTION)(**inputs)

    return run


def plain(value):
    """A thing with nothing in it that compares by identity: two of them are equal if they mean the same."""
    if isinstance(value, torch.Tensor):
        return tuple(value.shape), value.flatten().tolist()
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if hasattr(value, "keyframes"):
        return [(float(one.strength), one.start_percent, one.guarantee_steps) for one in value.keyframes]
    if hasattr(value, "hooks"):
        return [plain(one) for one in value.hooks]
    if hasattr(value, "_strength_model"):
        return [
            value._strength_model,
            value._strength_clip,
            plain(value.weights),
            plain(value.weights_clip),
            plain(value.hook_keyframe),
        ]
    return value


@pytest.fixture
def lora_pairs(new_model):
    """Name of a layer of the UNet -> down, up. Upsampling stands behind a motion module where such are injected."""
    model = new_model()
    generator = torch.Generator().manual_seed(5)
    pairs = {}
    for name, layer in model.model.named_modules():
        if re.search(r"attn[12]\.to_(q|v)$", name):
            out, width = layer.weight.shape
            down, up = torch.randn(2, width, generator=generator), torch.randn(out, 2, generator=generator)
            pairs[name] = (down * width**-0.5, up * 0.3)
        if re.search(r"output_blocks\.\d+\.[12]\.conv$", name):
            out, width = layer.weight.shape[:2]
            down = torch.randn(2, width, 3, 3, generator=generator) * (width * 9) ** -0.5
            pairs[name] = (down, torch.randn(out, 2, 1, 1, generator=generator) * 0.3)
    assert any("conv" in name for name in pairs)
    return pairs


@pytest.fixture
def lora_file(folder, lora_pairs):
    """Write the pairs as a LoRA, times a number; returns the file's name."""

    def new(name: str = "hooked", scale: float = 1.0) -> str:
        tensors = {}
        for layer, (down, up) in lora_pairs.items():
            tensors[f"{layer}.lora_down.weight"], tensors[f"{layer}.lora_up.weight"] = down, up * scale
        safetensors.torch.save_file(tensors, os.path.join(folder("loras"), f"{name}.safetensors"))
        return f"{name}.safetensors"

    return new


@pytest.fixture
def merged(new_model, lora_pairs):
    """A MODEL with the LoRA in its weights, added by hand."""

    def make(strength: float):
        model = new_model()
        for name, (down, up) in lora_pairs.items():
            change = (up.flatten(1).double() @ down.flatten(1).double()).float()
            weight = model.model.get_submodule(name).weight
            weight.data += strength * change.reshape(weight.shape)
        return model

    return make


@pytest.fixture
def animated(pack, new_motion):
    """`animated(model)`: with a motion model, in windows of four frames."""
    motion, windows = pack.submodule("sampling.motion.applied"), pack.submodule("sampling.windows.schedules")
    context = pack.submodule("sampling.windows.context").Context(windows.WindowOptions("standard_static", 4, 2), "flat")
    applied = motion.apply(new_motion(), motion.MotionSettings())
    return lambda model: pack.submodule("sampling.evolved").animate(model, applied, "autoselect", (context,))


# Hooks.


@pytest.mark.parametrize("strengths", [(0.7, 0.4), (0.0, 1.0), (-1.5, 0.0)])
def test_lora_hooks_are_those_of_the_host(nodes, core, new_model, lora_file, strengths):
    model, clip, name = new_model(), CLIP, lora_file()
    model_strength, clip_strength = strengths
    out = nodes(
        "ADE_RegisterLoraHook",
        model=model,
        clip=clip,
        lora_name=name,
        strength_model=model_strength,
        strength_clip=clip_strength,
    )
    assert out[:2] == (model, clip)
    (expected,) = core("CreateHookLora", lora_name=name, strength_model=model_strength, strength_clip=clip_strength)
    assert plain(out[2]) == plain(expected)
    assert len(out[2]) == 1


def test_lora_hooks_of_the_model_alone(nodes, core, new_model, lora_file):
    model, name = new_model(), lora_file()
    out = nodes("ADE_RegisterLoraHookModelOnly", model=model, lora_name=name, strength_model=0.7)
    (expected,) = core("CreateHookLoraModelOnly", lora_name=name, strength_model=0.7)
    assert out[0] is model
    assert plain(out[1]) == plain(expected)


class Clip:
    """A CLIP as far as the sockets ask."""

    def tokenize(self, text):
        return text

    encode_from_tokens = tokenize


CLIP = Clip()


def test_hooks_without_strength_are_empty_and_go_through_all_the_nodes(
    nodes, core, new_model, lora_file, animated, sample, positive, negative
):
    name, model = lora_file(), animated(new_model())
    inputs = {"model": model, "clip": CLIP, "lora_name": name, "strength_model": 0.0, "strength_clip": 0.0}
    empty = nodes("ADE_RegisterLoraHook", **inputs)[2]
    assert plain(empty) == plain(core("CreateHookLora", lora_name=name, strength_model=0.0, strength_clip=0.0)[0]) == []
    keyframes = nodes("ADE_LoraHookKeyframe", strength_model=0.5, start_percent=0.6, guarantee_steps=3)[0]
    (empty,) = nodes("ADE_SetLoraHookKeyframe", lora_hook=empty, hook_kf=keyframes)
    found = sample(model, conds=hooked(nodes, empty, positive, negative))
    assert torch.equal(found, sample(model))


@pytest.fixture
def hooks(nodes, new_model, lora_file):
    """`hooks(strength)`: LoRA hooks, each of another file."""
    made = []

    def new(strength: float = 1.0):
        name = lora_file(f"hooked-{len(made)}", 1.0 + len(made))
        made.append(name)
        return nodes("ADE_RegisterLoraHookModelOnly", model=new_model(), lora_name=name, strength_model=strength)[1]

    return new


@pytest.mark.parametrize(
    ("node_id", "core_id", "letters"),
    [
        ("ADE_CombineLoraHooks", "CombineHooks2", "AB"),
        ("ADE_CombineLoraHooksFour", "CombineHooks4", "ABCD"),
        ("ADE_CombineLoraHooksEight", "CombineHooks8", "ABCDEFGH"),
    ],
)
def test_hooks_are_combined_in_the_order_of_their_letters(nodes, core, hooks, node_id, core_id, letters):
    made = {letter: hooks(0.1 * number) for number, letter in enumerate(letters, start=1)}
    (found,) = nodes(node_id, **{f"lora_hook_{letter}": made[letter] for letter in reversed(letters)})
    (expected,) = core(core_id, **{f"hooks_{letter}": hook for letter, hook in made.items()})
    assert [hook.hook_ref for hook in found.hooks] == [hook.hook_ref for hook in expected.hooks]
    assert [hook._strength_model for hook in found.hooks] == [0.1 * (i + 1) for i in range(len(letters))]
    last = made[letters[-1]]
    assert nodes(node_id, **{f"lora_hook_{letters[-1]}": last}) == (last,)
    assert nodes(node_id) == (None,)


# Keyframes.


def keyframes_of(group) -> list[tuple[float, float, int]]:
    return [(round(float(s), 5), round(percent, 5), steps) for s, percent, steps in plain(group)]


def test_a_keyframe_has_its_guaranteed_steps_and_its_place(nodes, core):
    first = nodes("ADE_LoraHookKeyframe", strength_model=0.5, start_percent=0.6, guarantee_steps=3)[0]
    both = nodes("ADE_LoraHookKeyframe", strength_model=-2.0, start_percent=0.2, guarantee_steps=0, prev_hook_kf=first)[
        0
    ]
    assert keyframes_of(both) == [(-2.0, 0.2, 0), (0.5, 0.6, 3)]
    assert keyframes_of(first) == [(0.5, 0.6, 3)]  # what came in is as it was
    (usual,) = core("CreateHookKeyframe", strength_mult=0.5, start_percent=0.6)
    assert plain(usual) == plain(
        nodes("ADE_LoraHookKeyframe", strength_model=0.5, start_percent=0.6, guarantee_steps=1)[0]
    )


@pytest.mark.parametrize("interpolation", ["linear", "ease_in", "ease_out", "ease_in_out"])
def test_interpolated_keyframes_are_those_of_the_host(nodes, core, interpolation, caplog):
    before = nodes("ADE_LoraHookKeyframe", strength_model=3.0, start_percent=0.3, guarantee_steps=2)[0]
    ends = {"strength_start": 0.2, "strength_end": 1.8, "start_percent": 0.1, "end_percent": 0.9}
    with caplog.at_level(logging.INFO):
        found = nodes(
            "ADE_LoraHookKeyframeInterpolation",
            **ends,
            interpolation=interpolation,
            intervals=5,
            print_keyframes=True,
            prev_hook_kf=before,
        )[0]
    assert len([record for record in caplog.records if "eyframe" in record.getMessage()]) == 5
    (expected,) = core(
        "CreateHookKeyframesInterpolated",
        **ends,
        interpolation=interpolation,
        keyframes_count=5,
        print_keyframes=False,
        prev_hook_kf=before,
    )
    assert plain(found) == plain(expected)
    assert [steps for *_, steps in plain(found)] == [1, 0, 2, 0, 0, 0]


@pytest.mark.parametrize("strengths", [[0.5, 1.0, 0.0], 0.75])
def test_keyframes_of_a_list_are_those_of_the_host(nodes, core, strengths):
    ends = {"start_percent": 0.2, "end_percent": 0.8, "print_keyframes": False}
    found = nodes("ADE_LoraHookKeyframeFromStrengthList", strengths_float=strengths, **ends)[0]
    (expected,) = core("CreateHookKeyframesFromFloats", floats_strength=strengths, **ends)
    assert plain(found) == plain(expected)
    if isinstance(strengths, list):
        assert keyframes_of(found) == [(0.5, 0.2, 1), (1.0, 0.5, 0), (0.0, 0.8, 0)]


def test_too_many_keyframes_are_refused(nodes):
    with pytest.raises(ValueError, match=r"intervals is 1e\+06, but can be at most 10000.* Lower it"):
        nodes(
            "ADE_LoraHookKeyframeInterpolation",
            start_percent=0.0,
            end_percent=1.0,
            strength_start=1.0,
            strength_end=1.0,
            interpolation="linear",
            intervals=1_000_000,
            print_keyframes=False,
        )


def test_keyframes_are_set_on_copies_of_hooks(nodes, core, hooks):
    hook = hooks()
    keyframes = nodes("ADE_LoraHookKeyframe", strength_model=0.5, start_percent=0.6, guarantee_steps=3)[0]
    (found,) = nodes("ADE_SetLoraHookKeyframe", lora_hook=hook, hook_kf=keyframes)
    (expected,) = core("SetHookKeyframes", hooks=hook, hook_kf=keyframes)
    assert plain(found) == plain(expected)
    assert keyframes_of(found.hooks[0].hook_keyframe) == [(0.5, 0.6, 3)]
    assert plain(hook.hooks[0].hook_keyframe) == []


# Conditionings.


def mask(height: int = 4) -> torch.Tensor:
    return torch.linspace(0, 1, height * 8).reshape(1, height, 8)


SINGLE, PAIR = ("cond",), ("positive", "negative")
EXTRAS = [
    (),
    ("mask",),
    ("hooks",),
    ("timesteps",),
    ("mask", "hooks", "timesteps"),
]
OURS = {"mask": "opt_mask", "hooks": "opt_lora_hook", "timesteps": "opt_timesteps"}


@pytest.fixture
def conds(new_cond, hooks):
    """Conditionings by the names of inputs; those at `_NEW` and `_B` have hooks already."""
    made = {name: new_cond(seed) for seed, name in enumerate((*SINGLE, *PAIR), start=1)}
    return lambda name, end: (
        [[made[name][0][0] + len(end), {"hooks": hooks()}]] if end in ("_NEW", "_B") else made[name]
    )


@pytest.mark.parametrize("names", [SINGLE, PAIR], ids=["single", "pair"])
@pytest.mark.parametrize("combine", [False, True], ids=["set", "set and combine"])
@pytest.mark.parametrize("extras", EXTRAS, ids="+".join)
def test_properties_are_set_as_the_host_does(nodes, core, conds, hooks, names, combine, extras):
    pair, suffix = len(names) == 2, "AndCombine" if combine else ""
    given = {"mask": mask(), "hooks": hooks(), "timesteps": (0.2, 0.7)}
    given = {name: given[name] for name in extras}
    values = {"strength": 0.6, "set_cond_area": "mask bounds"}
    new = {name: conds(name, "_NEW") for name in names}
    onto = {name: conds(name, "") for name in names} if combine else {}
    found = nodes(
        f"ADE_{'Paired' if pair else ''}ConditioningSetMask{suffix}",
        **onto,
        **{f"{name}_ADD": cond for name, cond in new.items()},
        **values,
        **{OURS[name]: value for name, value in given.items()},
    )
    expected = core(
        f"{'Pair' if pair else ''}ConditioningSetProperties{suffix}",
        **onto,
        **{f"{name}_NEW": cond for name, cond in new.items()},
        **values,
        **given,
    )
    assert plain(found) == plain(expected)
    assert len(found) == len(names)
    assert all(len(cond) == 1 + combine for cond in found)


@pytest.mark.parametrize("names", [SINGLE, PAIR], ids=["single", "pair"])
@pytest.mark.parametrize("hooked", [False, True])
def test_the_rest_is_set_as_the_host_does(nodes, core, conds, hooks, names, hooked):
    pair = len(names) == 2
    inputs = {name: conds(name, "") for name in names} | {f"{name}_DEFAULT": conds(name, "_NEW") for name in names}
    hook = hooks()
    found = nodes(
        f"ADE_{'Paired' if pair else ''}ConditioningSetUnmaskedAndCombine",
        **inputs,
        **({"opt_lora_hook": hook} if hooked else {}),
    )
    expected = core(
        f"{'Pair' if pair else ''}ConditioningSetDefaultCombine", **inputs, **({"hooks": hook} if hooked else {})
    )
    assert plain(found) == plain(expected)
    assert [cond[-1][1]["default"] for cond in found] == [True] * len(names)


def test_conditionings_are_combined_as_the_host_does(nodes, core, conds):
    inputs = {f"{name}{end}": conds(name, end) for end in ("_A", "_B") for name in PAIR}
    found = nodes("ADE_PairedConditioningCombine", **inputs)
    assert plain(found) == plain(core("PairConditioningCombine", **inputs))
    first, second = conds("cond", "_A"), conds("cond", "_B")
    (one,) = nodes("ADE_ConditioningCombine", cond_A=first, cond_B=second)
    assert plain(one) == plain(core("ConditioningCombine", conditioning_1=first, conditioning_2=second)[0])


def test_hooks_are_attached_to_a_conditioning_as_the_host_does(nodes, conds, hooks):
    from comfy_extras.nodes_hooks import SetModelHooksOnCond

    cond, hook = conds("cond", "_NEW"), hooks()
    (found,) = nodes("ADE_AttachLoraHookToConditioning", conditioning=cond, lora_hook=hook)
    assert plain(found) == plain(SetModelHooksOnCond().attach_hook(cond, hook)[0])
    assert len(found[0][1]["hooks"]) == 2
    assert len(cond[0][1]["hooks"]) == 1  # what came in is as it was


def test_masks_of_other_packs_are_masks(nodes, positive):
    values = {"cond_ADD": positive, "strength": 1.0, "set_cond_area": "default"}
    for shape in ((8, 8), (1, 8, 8), (1, 1, 8, 8)):
        (found,) = nodes("ADE_ConditioningSetMask", **values, opt_mask=torch.ones(shape))
        assert found[0][1]["mask"].shape == (1, 8, 8)


def test_a_range_of_timesteps_is_that_of_the_host(nodes, core):
    found = nodes("ADE_TimestepsConditioning", start_percent=0.25, end_percent=0.75)
    assert found == core("ConditioningTimestepsRange", start_percent=0.25, end_percent=0.75)[:1] == ((0.25, 0.75),)


# In a run, animated and in windows.


def hooked(nodes, hook, positive, negative) -> tuple:
    return nodes(
        "ADE_PairedConditioningSetMask",
        positive_ADD=positive,
        negative_ADD=negative,
        strength=1.0,
        set_cond_area="default",
        opt_lora_hook=hook,
    )


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a - b).norm() / b.norm()).item()


def test_a_hook_on_all_conditionings_is_the_lora_in_the_weights(
    nodes, hooks, new_model, merged, animated, sample, positive, negative
):
    model = animated(new_model())
    plain_clip = sample(model, frames=FRAMES)
    found = sample(model, frames=FRAMES, conds=hooked(nodes, hooks(0.8), positive, negative))
    expected = sample(animated(merged(0.8)), frames=FRAMES)
    assert relative(found, expected) < 1e-5
    assert relative(plain_clip, expected) > 1e-2
    assert torch.equal(sample(model, frames=FRAMES), plain_clip)  # nothing of it stays in the weights


def strengths_at(sigmas: list[float], keyframes: list[tuple[float, float, int]], percent_to_sigma) -> list[float]:
    """The strength of each step: a keyframe that has begun takes over once the one before had its guaranteed steps.

    One that starts above the first sigma is guaranteed none.
    """
    starts = [percent_to_sigma(percent) for _, percent, _ in keyframes]
    steps = [0 if start > sigmas[0] else count for (*_, count), start in zip(keyframes, starts, strict=True)]
    now, used, found = 0, 0, []
    for sigma in sigmas:
        while used >= steps[now] and now + 1 < len(starts) and starts[now + 1] >= sigma:
            now, used = now + 1, 0
        used += 1
        found.append(keyframes[now][0])
    return found


@pytest.mark.parametrize(
    ("keyframes", "expected"),
    [
        ([(1.0, 0.0, 1), (0.0, 0.5, 1)], [1, 1, 1, 0, 0, 0]),
        ([(1.0, 0.0, 1), (0.5, 0.1, 3), (0.0, 0.3, 1)], [1, 0.5, 0.5, 0.5, 0, 0]),
        ([(1.0, 0.0, 1), (0.5, 0.1, 0), (0.0, 0.3, 1)], None),
    ],
)
def test_keyframes_of_hooks_in_a_run(
    nodes, hooks, new_model, merged, animated, sample, positive, negative, keyframes, expected
):
    group = None
    for strength, percent, steps in keyframes:
        group = nodes(
            "ADE_LoraHookKeyframe",
            strength_model=strength,
            start_percent=percent,
            guarantee_steps=steps,
            prev_hook_kf=group,
        )[0]
    (hook,) = nodes("ADE_SetLoraHookKeyframe", lora_hook=hooks(), hook_kf=group)
    model = animated(new_model())
    run = {"frames": FRAMES, "steps": STEPS}
    found = sample(model, **run, conds=hooked(nodes, hook, positive, negative))

    import comfy.samplers

    sampling = model.get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(sampling, "normal", STEPS)[:-1].tolist()
    strengths = strengths_at(sigmas, keyframes, sampling.percent_to_sigma)
    if expected is not None:
        assert strengths == expected
    # step by step, with the LoRA in the weights
    latent, noise = None, None
    for step, strength in enumerate(strengths):
        latent = sample(
            animated(merged(strength)),
            **run,
            noise=noise,
            latent=latent,
            start_step=step,
            last_step=step + 1,
            force_full_denoise=False,
        )
        noise = torch.zeros_like(latent)
    assert relative(found, latent) < 1e-4


# With a whole checkpoint.


@pytest.fixture(scope="module")
def checkpoint(toyworld_models, host_path):
    """`checkpoint("toyworld")`: MODEL and CLIP of a checkpoint of the toy world, which hooks' nodes find by its file."""
    import comfy.sd
    import folder_paths

    before = folder_paths.folder_names_and_paths["checkpoints"]
    folder_paths.folder_names_and_paths["checkpoints"] = ([str(toyworld_models / "checkpoints")], before[1])
    folder_paths.filename_list_cache.pop("checkpoints", None)

    def load(name: str) -> tuple:
        return comfy.sd.load_checkpoint_guess_config(
            str(toyworld_models / "checkpoints" / f"{name}.safetensors"), output_vae=False, output_clip=True
        )[:2]

    yield load
    folder_paths.folder_names_and_paths["checkpoints"] = before
    folder_paths.filename_list_cache.pop("checkpoints", None)


def encoded(clip, text: str):
    with torch.inference_mode():
        return clip.encode_from_tokens_scheduled(clip.tokenize(text))


@pytest.fixture
def clip_lora_file(folder):
    """A change of the text encoder's last norm: all else in the toy world's does nothing."""
    change = torch.randn(768, generator=torch.Generator().manual_seed(6))
    name = "text_encoders.clip_l.transformer.text_model.final_layer_norm"
    safetensors.torch.save_file({f"{name}.diff": change}, os.path.join(folder("loras"), "text.safetensors"))
    return "text.safetensors"


def test_a_hook_at_the_clip_changes_how_prompts_are_encoded(nodes, core, checkpoint, clip_lora_file):
    """ADE's node hands the hook on as another argument with newer releases, and nothing happens."""
    model, clip = checkpoint("toyworld")
    before = encoded(clip, "a red circle")
    _, same_clip, hook = nodes(
        "ADE_RegisterLoraHook",
        model=model,
        clip=clip,
        lora_name=clip_lora_file,
        strength_model=0.0,
        strength_clip=1.0,
    )
    (found_clip,) = nodes("ADE_AttachLoraHookToCLIP", clip=same_clip, lora_hook=hook)
    found = encoded(found_clip, "a red circle")
    (core_clip,) = core("SetClipHooks", clip=clip, schedule_clip=False, apply_to_conds=True, hooks=hook)
    assert plain(found) == plain(encoded(core_clip, "a red circle"))
    assert relative(found[0][0], before[0][0]) > 0.05
    assert plain(found[0][1]["hooks"]) == plain(hook)
    merged_clip = core(
        "LoraLoader", model=model, clip=clip, lora_name=clip_lora_file, strength_model=0.0, strength_clip=1.0
    )[1]
    assert relative(found[0][0], encoded(merged_clip, "a red circle")[0][0]) < 1e-3
    assert plain(encoded(clip, "a red circle")) == plain(before)


@pytest.mark.parametrize("node_id", ["ADE_RegisterModelAsLoraHook", "ADE_RegisterModelAsLoraHookModelOnly"])
def test_a_checkpoint_as_a_hook_samples_as_that_checkpoint(nodes, checkpoint, sample, node_id):
    """At strength 1 the weights are those of the other checkpoint. ADE's node for the model alone crashes."""
    model, clip = checkpoint("toyworld")
    other, _ = checkpoint("toyworld-personalised")
    inputs = {"model": model, "ckpt_name": "toyworld-personalised.safetensors", "strength_model": 1.0}
    if node_id == "ADE_RegisterModelAsLoraHook":
        inputs |= {"clip": clip, "strength_clip": 1.0}
    *_, hook = nodes(node_id, **inputs)
    conds = (encoded(clip, "a red circle"), encoded(clip, ""))
    settings = {"frames": 2, "steps": 2}
    found = sample(model, **settings, conds=hooked(nodes, hook, *conds))
    assert relative(found, sample(other, **settings, conds=conds)) < 1e-3
    assert relative(found, sample(model, **settings, conds=conds)) > 1e-2
