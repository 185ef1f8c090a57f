"""The scheduling nodes, with a CLIP whose conditioning is easy to foretell: 1 for A, 2 for B, and so on."""

from __future__ import annotations

import logging
import math
import re

import pytest
import torch


class Clip:
    """Encodes a text as its last capital letter (A is 0) or number, one token for each word; keeps what it encoded."""

    def __init__(self, patcher=None):
        self.texts = []
        self.patcher, self.use_clip_schedule, self.hooks = patcher, False, {}

    def tokenize(self, text):
        return text

    def add_hooks_to_dict(self, options):
        return {**options, **self.hooks}

    def encode_from_tokens(self, tokens, return_pooled=False):
        self.texts.append(tokens)
        value = meaning(tokens)
        cond = torch.full((1, max(1, len(tokens.split())), 2), value)
        return cond, torch.full((1, 3), value)


def meaning(text: str) -> float:
    found = re.findall(r"[A-Z]\b|[0-9.]+", text)
    return float(ord(found[-1]) - ord("A")) if found[-1].isalpha() else float(found[-1])


class Directions(Clip):
    """A and B at right angles, of lengths 1 and 2."""

    def encode_from_tokens(self, tokens, return_pooled=False):
        cond = torch.tensor({"A": [[[1.0, 0.0]]], "B": [[[0.0, 2.0]]], "0": [[[0.0, 0.0]]]}[tokens])
        return cond, cond[0]


@pytest.fixture
def run(pack):
    """`run("ADE_PromptScheduling", prompts=..., ...)`: the outputs of a node."""
    nodes = {node.__name__: node for node in pack.submodule("nodes.scheduling").NODES}
    return lambda node_id, **inputs: nodes[node_id].execute(**inputs).args


@pytest.fixture
def schedule(run):
    """`schedule('0 = "A"', ...)`: the cond of the first token and channel, and the pooled output, of each frame."""

    def make(prompts, frames=0, clip=None, node_id="ADE_PromptScheduling", **inputs):
        (((cond, options),),) = run(node_id, prompts=prompts, clip=clip or Clip(), max_length=frames, **inputs)
        pooled = options["pooled_output"]
        assert len(pooled) == len(cond)
        return cond[:, 0, 0].tolist(), pooled[:, 0].tolist()

    return make


@pytest.fixture
def replace(run):
    """`replace(a=[1.0, 2.0], b=...)`: VALUES_REPLACE."""

    def make(**values):
        previous = ()
        for key, floats in values.items():
            (previous,) = run("ADE_ValuesReplace", value_key=key, floats=floats, prev_replace=previous)
        return previous

    return make


# Interpolation (docs/behaviour.md, "Scheduled texts")


def test_changes_compound(schedule):
    cond, pooled = schedule('"0": "A", "4": "B"', 6)
    assert cond == pytest.approx([0, 0.25, 0.625, 0.90625, 1, 1])
    assert pooled == [0, 1, 1, 1, 1, 1]
    cond, pooled = schedule('0="A", 0.5="B", 1.0="C"', 8)
    assert cond == pytest.approx([0, 0.25, 0.625, 0.90625, 1, 4 / 3, 16 / 9, 2])
    assert pooled == [0, 1, 1, 1, 1, 2, 2, 2]


def test_a_held_prompt_is_not_interpolated(schedule):
    assert schedule('0:="A", 4="B"', 6)[0] == [0, 0, 0, 0, 1, 1]
    assert schedule('0:4="A", 4="B"', 6)[0] == [0, 0, 0, 0, 1, 1]
    assert schedule('2="B", 3="C"', 5)[0] == [1, 1, 1, 2, 2]


def test_from_changing_texts_changes_are_even(schedule, replace):
    values = replace(a=[0.0, 10.0, 20.0, 30.0, 40.0])
    cond, pooled = schedule('0 = "A `a`", 4 = "word B"', 5, values_replace=values)
    assert cond == pytest.approx([0, 7.75, 10.5, 8.25, 1])
    assert pooled == [0, 1, 1, 1, 1]


def test_to_changing_texts_changes_compound(schedule, replace):
    values = replace(b=[0.0, 8.0, 16.0, 24.0, 32.0])
    cond, pooled = schedule('0 = "word A", 4 = "word `b`"', 6, values_replace=values)
    assert cond == pytest.approx([0, 2, 9, 20.25, 32, 32])
    assert pooled == [0, 8, 16, 24, 32, 32]


def test_the_linear_course_is_even_in_the_pooled_output_too(schedule):
    def even(course):
        return schedule('"0": "A", "4": "B"', 6, node_id="AnimateDiffPromptScheduling", interpolation=course)

    assert even("linear") == (pytest.approx([0, 0.25, 0.5, 0.75, 1, 1]), pytest.approx([0, 0.25, 0.5, 0.75, 1, 1]))
    assert even("compounding") == (pytest.approx([0, 0.25, 0.625, 0.90625, 1, 1]), [0, 1, 1, 1, 1, 1])


def test_slerp_goes_along_the_arc_between_whole_tensors(run):
    def cond(prompts, interpolation="linear", method="slerp"):
        inputs = {"prompts": prompts, "clip": Directions(), "tensor_interp": method, "interpolation": interpolation}
        return run("AnimateDiffPromptScheduling", **inputs)[0][0][0][:, 0]

    def on_arc(weight):
        return torch.tensor([math.cos(weight * math.pi / 2), 2 * math.sin(weight * math.pi / 2)])

    found = cond('0="A", 4="B"')
    torch.testing.assert_close(found, torch.stack([on_arc(i / 4) for i in range(5)]), atol=1e-6, rtol=1e-6)
    start, end = on_arc(0.25), on_arc(1)
    cosine = start @ end / (start.norm() * end.norm())
    angle = torch.acos(cosine)
    expected = (start + end) * torch.sin(angle / 2) / torch.sin(angle)
    torch.testing.assert_close(cond('0="A", 4="B"', "compounding")[2], expected)
    # where there is no arc, on the straight line
    torch.testing.assert_close(cond('0="A", 4="A"'), cond('0="A", 4="A"', method="lerp"))
    assert cond('0="0", 2="A"')[:, 0].tolist() == [0, 0.5, 1]


def test_frames_behind_the_last_prompt_follow_the_values(schedule, replace):
    values = replace(a=[5.0, 6.0, 7.0])
    assert schedule('0 = "`a`"', 5, values_replace=values)[0] == [5, 6, 7, 7, 7]
    assert schedule('4 = "`a`"', 3, values_replace=values)[0] == [5, 6, 7]
    assert schedule('0: = "`a`", 2 = "A"', 4, values_replace=values)[0] == [5, 6, 0, 0]


def test_entries_count_in_the_order_of_the_text(schedule):
    assert schedule('4="B", 0="C"', 6)[0] == pytest.approx([2, 1.90625, 1.625, 1.25, 1, 1])
    assert schedule('8="B", 4="A"', 6)[0] == pytest.approx([1, 1, 1, 1, 0, 0.25])  # from behind the end


# Texts


@pytest.mark.parametrize("prompt", ["a cat", ", a cat", "a cat,", ", a cat,"])
@pytest.mark.parametrize("prepend", ["best", " best,\n", "best, ,"])
@pytest.mark.parametrize("append", ["film B", ", film B ", "\n,,film B"])
def test_texts_before_and_behind(schedule, prompt, prepend, append):
    clip = Clip()
    schedule(f'0 = "{prompt}"', 2, clip, prepend_text=prepend, append_text=append)
    assert clip.texts == ["best, a cat, film B"]


@pytest.mark.parametrize("empty", ["", " \n", " , "])
def test_empty_texts_before_and_behind_change_nothing(schedule, empty):
    clip = Clip()
    schedule('0 = " a cat B"', 2, clip, prepend_text=empty, append_text=empty)
    assert clip.texts == [" a cat B"]


def test_values_are_written_in_full(schedule, replace):
    clip = Clip()
    values = replace(zoom=[0.30000001192092896, 3], other_1=[7.5])
    schedule('0:2 = "(a `zoom`) `other_1` `unknown` 1"', 2, clip, values_replace=values)
    assert clip.texts == ["(a 0.30000001192092896) 7.5 `unknown` 1", "(a 3) 7.5 `unknown` 1"]


def test_keys_without_values_are_said_in_the_log(schedule, replace, caplog):
    schedule('0 = "`zom` 1"', 2, values_replace=replace(zoom=[1.0]))
    assert "No values for `zom`" in caplog.text


def test_texts_are_encoded_once(schedule):
    clip = Clip()
    schedule('0="A", 4="B", 8="A"', 12, clip)
    assert clip.texts == ["A", "B"]


def test_conds_are_padded_on_both_sides_to_the_longest(run, replace):
    (((cond, _),),) = run("ADE_PromptScheduling", prompts='0:="x B", 1:="a b c d B", 2="B"', clip=Clip())
    assert cond[:, :, 0].tolist() == [[0, 1, 1, 0, 0], [1] * 5, [0, 0, 1, 0, 0]]


def test_texts_that_grow_later_fit_in(run, pack):
    """W26: with frame 0 alone the longest is two tokens long."""
    # words of this CLIP stand for the digits of a long number
    values = pack.submodule("scheduling.prompts").with_replacement("a", ["1", "1", "1 2 3 4"])
    (((cond, _),),) = run("ADE_PromptScheduling", prompts='0="a `a`"', clip=Clip(), max_length=3, values_replace=values)
    assert cond[:, :, 0].tolist() == [[0, 1, 1, 0, 0], [0, 1, 1, 0, 0], [4] * 5]


def test_entries_behind_the_end_count_for_the_length(run):
    (((cond, _),),) = run("ADE_PromptScheduling", prompts='0:="B", 9="a b c B"', clip=Clip(), max_length=2)
    assert cond.shape == (2, 4, 2)


def test_a_clip_without_pooled_output(run):
    clip = Clip()
    encode = clip.encode_from_tokens
    clip.encode_from_tokens = lambda tokens, return_pooled: (encode(tokens)[0], None)
    for node_id, options in (
        ("ADE_PromptScheduling", {}),
        ("AnimateDiffPromptScheduling", {"interpolation": "linear"}),
    ):
        (((cond, found),),) = run(node_id, prompts='0="A", 4="B"', clip=clip, **options)
        assert cond.shape[0] == 5
        assert found == {"pooled_output": None}


def test_a_wrong_prompt_is_refused_before_anything_is_encoded(run):
    clip = Clip()
    with pytest.raises(ValueError, match=r"prompts, line 1, character 10: expected the index of a frame, found 'f'"):
        run("ADE_PromptScheduling", prompts='0 = "A", four = "B"', clip=clip)
    assert not clip.texts


# Lengths, outputs


def test_latents_give_the_length_and_pass(run):
    latent = {"samples": torch.zeros(6, 4, 8, 8)}
    conditioning, passed = run("ADE_PromptSchedulingLatents", prompts='0="A", -2="B"', clip=Clip(), latent=latent)
    assert conditioning[0][0][:, 0, 0].tolist() == pytest.approx([0, 0.25, 0.625, 0.90625, 1, 1])
    assert passed is latent
    assert run("ADE_ValueSchedulingLatents", values="0=0, -2=1", latent=latent)[0] == [0, 0.25, 0.5, 0.75, 1, 1]


def test_value_scheduling_delivers_lists_and_needs_no_max_length(run):
    floats, same, ints, same_ints = run("ADE_ValueScheduling", values="0=0, 4=1")
    assert floats == same == [0, 0.25, 0.5, 0.75, 1]
    assert ints == same_ints == [0, 0, 0, 1, 1]
    assert {type(value) for value in floats} == {float}
    assert {type(value) for value in ints} == {int}
    assert type(floats) is type(ints) is list


def test_schedules_are_written_into_the_log(run, schedule, caplog):
    with caplog.at_level(logging.INFO):
        run("ADE_ValueScheduling", values="0=0, 2=1", print_schedule=True)
        schedule('0="a A", 2="a B"', 3, print_schedule=True)
    assert "0 = 0.0\n1 = 0.5\n2 = 1.0" in caplog.text
    assert '0 = "a A"\n1 = "a A" -> "a B" at 0.5000\n2 = "a B"' in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO):
        run("ADE_ValueScheduling", values="0=0, 2=1")
        schedule('0="A", 2="B"', 3)
    assert "[AnimateDiff]" not in caplog.text


def test_float_to_floats(run):
    for value, expected in ((0.5, [0.5]), (39, [39.0]), ([1.0, 2.0], [1.0, 2.0]), (range(2), [0, 1])):
        (floats,) = run("ADE_FloatToFloats", FLOAT=value)
        assert floats == expected
        assert type(floats) is list
    assert run("ADE_FloatToFloats", FLOAT=torch.tensor([0.5, 1.0])) == ([0.5, 1.0],)
    assert run("ADE_FloatToFloats", FLOAT=torch.tensor(0.5)) == ([0.5],)


def test_values_replace_changes_nothing_that_it_was_given(run, schedule):
    floats = [1.0]
    (first,) = run("ADE_ValuesReplace", value_key="a", floats=floats)
    (second,) = run("ADE_ValuesReplace", value_key="b", floats=[2.0], prev_replace=first)
    for values, expected in ((first, [1, 1, 1]), (second, [2, 2, 2]), (first, [1, 1, 1])):
        assert schedule('0="`b` `a`"' if values is first else '0="`a` `b`"', 3, values_replace=values)[0] == expected
    assert floats == [1.0]
    (third,) = run("ADE_ValuesReplace", value_key="a", floats=[3.0], prev_replace=second)
    assert schedule('0="`a`"', 2, values_replace=third)[0] == [3, 3]
    assert schedule('0="`a`"', 2, values_replace=second)[0] == [1, 1]


@pytest.mark.parametrize("key", ["", "a b", "`a`", "ä"])
def test_a_key_that_no_prompt_can_name_replaces_nothing_and_says_so(run, key, caplog):
    """The key is empty until the user writes one: such workflows run."""
    (before,) = run("ADE_ValuesReplace", value_key="a", floats=[1.0])
    assert run("ADE_ValuesReplace", value_key=key, floats=[1.0], prev_replace=before) == (before,)
    assert "has to be a name of the characters a-z, A-Z, 0-9 and _" in caplog.text


def test_values_need_a_list(run):
    with pytest.raises(ValueError, match="empty"):
        run("ADE_ValuesReplace", value_key="a", floats=[])


def test_one_frame_of_a_schedule(run, caplog):
    (conditioning,) = run("ADE_PromptScheduling", prompts='0="A", 4="B"', clip=Clip())
    before = conditioning[0][1].copy()
    (((cond, options),),) = run("ADE_ConditionExtraction", conditioning=conditioning, index=1)
    assert cond.tolist() == conditioning[0][0][1:2].tolist()
    assert options["pooled_output"].tolist() == [[1.0] * 3]
    assert conditioning[0][1] == before
    assert not caplog.text
    (unchanged,) = run("ADE_ConditionExtraction", conditioning=conditioning, index=5)
    assert unchanged[0][0] is conditioning[0][0]
    assert unchanged[0][1] is conditioning[0][1]
    assert "no index 5 in a conditioning of 5 frames" in caplog.text
    pooled_once = [[torch.zeros(4, 1, 2), {"pooled_output": torch.ones(1, 3), "area": 7}]]
    (((cond, options),),) = run("ADE_ConditionExtraction", conditioning=pooled_once, index=2)
    assert cond.shape == (1, 1, 2)
    assert options["pooled_output"].shape == (1, 3)
    assert options["area"] == 7


# CLIPs with hooks, as the host makes them


class TinyEncoder(torch.nn.Module):
    dtypes = frozenset([torch.float32])

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Linear(1, 1, bias=False)
        self.scale.weight.data.fill_(1.0)

    def reset_clip_options(self):
        pass

    def set_clip_options(self, options):
        pass

    def encode_token_weights(self, tokens):
        value = self.scale.weight.detach().clone() * meaning(tokens)
        return value[None], value


@pytest.fixture
def hooked_clip(host_path):
    """A CLIP of the host whose hook adds 1 to its weight: 1 at first, 10 times as strongly from half of the run on."""

    def make(scheduled: bool):
        import comfy.hooks
        import comfy.model_patcher
        import comfy.sd

        clip = comfy.sd.CLIP(no_init=True)
        clip.cond_stage_model, cpu = TinyEncoder(), torch.device("cpu")
        clip.patcher = comfy.model_patcher.ModelPatcher(clip.cond_stage_model, cpu, cpu)
        clip.patcher.is_clip, clip.patcher.hook_mode = True, comfy.hooks.EnumHookMode.MinVram
        clip.tokenizer = type("Tokenizer", (), {"tokenize_with_weights": lambda self, text, *_, **__: text})()
        clip.layer_idx, clip.tokenizer_options, clip.use_clip_schedule = None, {}, scheduled
        hooks = comfy.hooks.HookGroup()
        hook = comfy.hooks.WeightHook()
        hook.weights_clip, hook.need_weight_init = {"scale.weight": ("diff", (torch.ones(1, 1),))}, False
        for strength, start in ((1.0, 0.0), (10.0, 0.5)):
            hook.hook_keyframe.add(comfy.hooks.HookKeyframe(strength, start))
        hooks.add(hook)
        # as Set CLIP Hooks does it
        clip.apply_hooks_to_conds = hooks
        clip.patcher.forced_hooks = hooks.clone()
        if not scheduled:
            clip.patcher.forced_hooks.set_keyframes_on_hooks(None)
        clip.patcher.register_all_hook_patches(hooks, comfy.hooks.create_target_dict(comfy.hooks.EnumWeightTarget.Clip))
        return clip

    return make


def test_scheduled_hooks_give_an_entry_for_each_range(run, hooked_clip):
    clip = hooked_clip(scheduled=True)
    with torch.inference_mode():
        (entries,) = run("ADE_PromptScheduling", prompts='0="B", 4="C"', clip=clip, max_length=6)
    ranges = [(options["clip_start_percent"], options["clip_end_percent"]) for _, options in entries]
    assert ranges == [(0.0, 0.5), (0.5, 1.0)]
    for (cond, options), scale in zip(entries, (2, 11), strict=True):
        torch.testing.assert_close(cond[:, 0, 0], scale * torch.tensor([1, 1.25, 1.625, 1.90625, 2, 2]))
        assert options["pooled_output"][:, 0].tolist() == [scale * value for value in (1, 2, 2, 2, 2, 2)]
        assert options["hooks"] is clip.apply_hooks_to_conds


def test_hooks_without_schedule_travel_with_the_entry(run, hooked_clip):
    clip = hooked_clip(scheduled=False)
    with torch.inference_mode():
        (((cond, options),),) = run("ADE_PromptScheduling", prompts='0="B", 4="C"', clip=clip)
    torch.testing.assert_close(cond[:, 0, 0], 2 * torch.tensor([1, 1.25, 1.625, 1.90625, 2]))
    assert options.keys() == {"pooled_output", "hooks"}
    assert options["hooks"] is clip.apply_hooks_to_conds
