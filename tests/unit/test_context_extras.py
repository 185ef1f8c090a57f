"""Context extras without a UNet: what windows do in each mode, keyframes, nodes."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

# sqrt_linear, scheduler "normal", 10 steps (docs/behaviour.md)
SIGMAS = [25.1461, 13.2913, 7.5013, 4.4956, 2.8327, 1.8465, 1.2143, 0.7708, 0.4231, 0.0292]
PERCENTS = {0.0: 999999999.9, 0.1: 14.1238, 0.25: 6.565, 0.5: 2.2803, 0.75: 0.8698, 1.0: 0.0}
W, R, RW, OFF = "write", "read", "read_write", "off"


@pytest.fixture
def parts(pack):
    names = ("context_ref", "extras", "modes", "naive_reuse", "controls")
    return {name: pack.submodule(f"sampling.context_extras.{name}") for name in names}


@pytest.fixture
def nodes(pack):
    return {node.GET_SCHEMA().node_id: node for node in pack.submodule("nodes.sampling.context_extras").NODES}


@pytest.fixture
def made(nodes):
    """`made("ContextRef_Keyframe", mult=0.5)`: what the node gives."""
    return lambda name, **inputs: nodes[f"ADE_ContextExtras_{name}"].execute(**inputs).result[0]


def side_by_side(count: int, length: int = 4, overlap: int = 2) -> list[list[int]]:
    return [list(range(i * (length - overlap), i * (length - overlap) + length)) for i in range(count)]


@pytest.mark.parametrize(
    ("mode", "inputs", "expected"),
    [
        ("First", {}, [W, R, R, R, R, R]),
        ("Sliding", {}, [W, RW, RW, RW, RW, RW]),
        ("Sliding", {"sliding_width": 3}, [W, R, RW, R, RW, R]),
        ("Sliding", {"sliding_width": 4}, [W, R, R, RW, R, R]),
        # windows of 4 with overlap 2: frame 0 is in window 0, frame 5 in 1 and 2, frame 8 in 3 and 4
        ("Indexes", {}, [W, R, R, R, R, R]),
        ("Indexes", {"switch_on_idxs": "5, 8"}, [W, RW, R, RW, R, R]),
        ("Indexes", {"switch_on_idxs": "5, 8", "always_include_0": False}, [R, RW, R, RW, R, R]),
        ("Indexes", {"switch_on_idxs": "2, 3", "always_include_0": False}, [W, R, R, R, R, R]),
        ("Indexes", {"switch_on_idxs": "", "always_include_0": False}, [R, R, R, R, R, R]),
    ],
)
def test_what_windows_do_in_each_mode(made, mode, inputs, expected):
    windows = side_by_side(6)
    found = made(f"ContextRef_Mode{mode}", **inputs)
    assert found.states(windows) == expected
    assert found.states(windows) == expected  # nothing is remembered from step to step
    assert found.states(windows[:1]) == expected[:1]
    assert found.states([]) == []


def test_nobody_writes_for_nobody(parts):
    needed = parts["modes"].needed
    assert needed([W, RW, RW]) == [W, RW, R]
    assert needed([R, RW, R, RW]) == [OFF, W, R, R]
    assert needed([R, R]) == [OFF, OFF]
    assert needed([W]) == [OFF]


@pytest.mark.parametrize("text", ["-1", "3-5", "1.5", "a", "1 2", "1000000", "9" * 400])
def test_wrong_indexes_are_pointed_at(made, text):
    with pytest.raises(
        ValueError, match=r"switch_on_idxs, line 1, character \d+: expected .*\n.*\n *\^\nWrite frame numbers"
    ):
        made("ContextRef_ModeIndexes", switch_on_idxs=text)


def test_a_width_of_1_is_refused(made):
    with pytest.raises(ValueError, match="sliding_width is 1, but has to be at least 2"):
        made("ContextRef_ModeSliding", sliding_width=1)


def in_pass(extra, first_sigma: float = SIGMAS[0], frames: int = 8, model=None):
    sampling = SimpleNamespace(percent_to_sigma=lambda percent: PERCENTS[round(percent, 6)])
    run = SimpleNamespace(
        model_sampling=sampling,
        first_sigma=first_sigma,
        frames=frames,
        patcher=SimpleNamespace(model=model),
        model_options={"transformer_options": {}},
    )
    return extra.in_pass(run)


def steps(pack):
    feature = pack.submodule("sampling.feature")
    return [feature.Step(i, lambda sigma=sigma: sigma) for i, sigma in enumerate(SIGMAS)]


def reuse_of(state, step):
    call = SimpleNamespace(step=step)
    found = state.in_call(call, [[0, 1, 2, 3]])
    return None if found is None else found.strength


def test_naive_reuse_acts_in_its_range(pack, parts):
    reuse = parts["naive_reuse"].NaiveReuse(0.25, 0.75, 0.5)
    found = [reuse_of(in_pass(reuse), step) for step in steps(pack)]
    assert found == [None, None, None, 0.5, 0.5, 0.5, 0.5, None, None, None]


@pytest.mark.parametrize(
    ("weighted_mean", "mult", "value"), [(0.0, 1.0, None), (0.5, 0.0, None), (0.5, 1.0, 0.0), (-1.0, 1.0, None)]
)
def test_naive_reuse_of_nothing_does_not_act(pack, parts, weighted_mean, mult, value):
    keyframe = parts["naive_reuse"].ReuseKeyframe(mult, value)
    reuse = parts["naive_reuse"].NaiveReuse(0.0, 1.0, weighted_mean, keyframes=(keyframe,))
    assert {reuse_of(in_pass(reuse), step) for step in steps(pack)} == {None}


def test_naive_reuse_follows_its_keyframes(pack, parts, made):
    """The multival is inherited, mult is not."""
    keyframes = made("NaiveReuse_Keyframe", mult=0.5, mult_multival=0.5, start_percent=0.1)
    keyframes = made("NaiveReuse_Keyframe", prev_kf=keyframes, start_percent=0.25, mult=0.8)
    keyframes = made("NaiveReuse_Keyframe", prev_kf=keyframes, start_percent=0.5, inherit_missing=False)
    keyframes = made("NaiveReuse_Keyframe", prev_kf=keyframes, start_percent=0.75, mult=0.0)
    extras = made("NaiveReuse", naivereuse_kf=keyframes, end_percent=1.0, weighted_mean=0.5, strength_multival=0.8)
    state = in_pass(extras.naive_reuse)
    found = [reuse_of(state, step) for step in steps(pack)]
    assert found[0] == pytest.approx(0.4)  # none has begun
    assert found[1:3] == pytest.approx([0.4 * 0.25] * 2)
    assert found[3:5] == pytest.approx([0.4 * 0.8 * 0.5] * 2)
    assert found[5:7] == pytest.approx([0.4] * 2)
    assert found[7:] == [None] * 3


def test_keyframes_are_chosen_as_all_are(pack, parts, made):
    """Two at 0.0, of which the second counts at once, then one at 0.5: 1 1 1 1 1 2 2 2 2 2."""
    keyframes = ()
    for start, mult in ((0.0, 0.1), (0.0, 0.2), (0.5, 0.3)):
        keyframes = made("NaiveReuse_Keyframe", prev_kf=keyframes, start_percent=start, mult=mult)
    state = in_pass(parts["naive_reuse"].NaiveReuse(0.0, 1.0, 1.0, keyframes=keyframes))
    assert [reuse_of(state, step) for step in steps(pack)] == [0.2] * 5 + [0.3] * 5


def test_context_ref_inherits_mode_tune_and_multival_each_for_itself(pack, parts, made, new_model, layouts):
    sliding, tune = made("ContextRef_ModeSliding"), made("ContextRef_TuneAttn", attn_strength=0.5)
    keyframes = made("ContextRef_Keyframe", start_percent=0.1, mode_replace=sliding, mult=0.5)
    keyframes = made("ContextRef_Keyframe", prev_kf=keyframes, start_percent=0.25, tune_replace=tune, mult_multival=0.5)
    keyframes = made("ContextRef_Keyframe", prev_kf=keyframes, start_percent=0.5)
    keyframes = made("ContextRef_Keyframe", prev_kf=keyframes, start_percent=0.75, inherit_missing=False)
    extras = made("ContextRef", contextref_kf=keyframes, end_percent=1.0)
    state = in_pass(extras.context_ref, model=new_model(layouts["unusual"]).model)
    found = [state.at_keyframe[state.keyframes.at(step)] for step in steps(pack)]
    modes = [type(now.mode).__name__ for now in found]
    assert modes == ["First"] + ["Sliding"] * 6 + ["First"] * 3
    strengths = [now.attention.strength for now in found]
    # no tune is 1; what a keyframe multiplies by is its own, a multival is inherited
    assert strengths == [1.0, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25, 1.0, 1.0, 1.0]
    assert all(now.statistics is None for now in found)


def test_what_api_prompts_get_that_leave_everything_out(made):
    extras = made("NaiveReuse", prev_extras=made("ContextRef"))
    reuse, reference = extras.naive_reuse, extras.context_ref
    assert (reuse.start_percent, reuse.end_percent, reuse.weighted_mean) == (0.0, 0.1, 0.95)
    assert (reference.start_percent, reference.end_percent) == (0.0, 0.1)
    assert (made("NaiveReuse_Keyframe")[0].start_percent, made("ContextRef_Keyframe")[0].start_percent) == (0.0, 1.0)
    tune = made("ContextRef_TuneAttn")
    assert (tune.attn_style_fidelity, tune.attn_ref_weight, tune.attn_strength) == (1.0, 1.0, 1.0)
    assert (tune.adain_style_fidelity, tune.adain_ref_weight, tune.adain_strength) == (0.0, 0.0, 0.0)
    assert made("ContextRef_TuneAttnAdain").adain_strength == 1.0
    assert reference.tune == tune


@pytest.mark.parametrize("kind", ["NaiveReuse", "ContextRef"])
def test_keyframes_from_a_curve_and_from_a_list(made, kind, caplog):
    caplog.set_level("INFO")
    span = {"start_percent": 0.0, "end_percent": 0.5, "inherit_missing": False, "print_keyframes": True}
    curve = made(
        f"{kind}_KeyframeInterpolation", mult_start=1.0, mult_end=0.0, interpolation="ease_in", intervals=3, **span
    )
    assert [(k.start_percent, k.mult, k.guarantee_steps) for k in curve] == [
        (0.0, 1.0, 1),
        (0.25, 0.75, 0),
        (0.5, 0.0, 0),
    ]
    assert "mult 0.75 from 0.250" in caplog.text
    listed = made(f"{kind}_KeyframeFromList", mults_float=[0.2, 0.4], prev_kf=curve, mult_multival=0.5, **span)
    assert [(k.start_percent, k.mult) for k in listed] == [(0.0, 1.0), (0.0, 0.2), (0.25, 0.75), (0.5, 0.0), (0.5, 0.4)]
    assert {k.mult_multival for k in listed} == {None, 0.5}
    assert not any(k.inherit_missing for k in listed)
    assert len(made(f"{kind}_KeyframeFromList", mults_float=0.3, **span)) == 1
    with pytest.raises(ValueError, match="can be at most 10000"):
        made(f"{kind}_KeyframeFromList", mults_float=[0.5] * 10_001, **span)


def test_extras_travel_with_the_context_options(pack, made):
    options = {node.GET_SCHEMA().node_id: node for node in pack.submodule("nodes.sampling.context").NODES}
    extras_of = pack.submodule("sampling.windows.context").extras_of

    def static(**inputs):
        inputs = {"context_length": 16, "context_overlap": 4, **inputs}
        return options["ADE_StandardStaticContextOptions"].execute(**inputs).result[0]

    reuse, both = made("NaiveReuse"), made("ContextRef", prev_extras=made("NaiveReuse"))
    bare = static()
    chain = made("Set", context_opts=bare, context_extras=reuse)
    assert extras_of(bare).extras() == ()  # what came in is as it was
    assert made("Set", context_opts=chain) == chain
    longer = static(prev_context=chain, start_percent=0.5)
    assert extras_of(longer) is reuse
    earlier = static(prev_context=static(prev_context=bare, start_percent=0.5))
    assert extras_of(earlier).extras() == ()
    replaced = made("Set", context_opts=longer, context_extras=both)
    assert extras_of(replaced) is both
    assert [type(extra).__name__ for extra in both.extras()] == ["ContextRef", "NaiveReuse"]
    again = made("NaiveReuse", prev_extras=both, weighted_mean=0.3)
    assert (again.context_ref, again.naive_reuse.weighted_mean) == (both.context_ref, 0.3)
    assert both.naive_reuse.weighted_mean == 0.95


@pytest.mark.parametrize(("first", "frames", "expected"), [
    ([0, 1, 2, 3], 8, [[0, 1, 2, 3], [4, 5, 6, 7]]),
    ([0, 1, 2, 3], 6, [[0, 1, 2, 3], [4, 5]]),
    ([6, 7, 0, 1], 8, [[6, 7, 0, 1], [2, 3, 4, 5]]),
    ([3, 4, 5], 7, [[3, 4, 5], [6, 0, 1], [2]]),
])  # fmt: skip
def test_chunks_of_naive_reuse(parts, first, frames, expected):
    assert list(parts["naive_reuse"].chunks(first, frames)) == expected


def test_wrong_links_are_told(made):
    with pytest.raises(ValueError, match=r"contextref_mode.*got.*in place of a mode of ContextRef"):
        made("ContextRef", contextref_mode="first")
    with pytest.raises(ValueError, match=r"naivereuse_kf.*in place of keyframes of NaiveReuse"):
        made("NaiveReuse", naivereuse_kf=made("ContextRef_Keyframe"))
    with pytest.raises(ValueError, match="not finite"):
        made("NaiveReuse", strength_multival=torch.full((1, 2, 2), float("nan")))
