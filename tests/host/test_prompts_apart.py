"""Prompts that are kept apart, on tiny UNets: who still sees whom, windows, and what must not change."""

from __future__ import annotations

import pytest
import torch

FRAMES = 6
MUCH = 100.0  # of logits: nothing is left of attention


@pytest.fixture
def nodes(pack):
    """Run a node by its id, as the server does; gives its first output."""
    found = {node.GET_SCHEMA().node_id: node for node in pack.submodule("nodes").NODES}
    return lambda node_id, **inputs: found[node_id].execute(**inputs).result[0]


@pytest.fixture
def travel(pack, positive, negative):
    """`travel("aaabbb", strength, transition)`: conds of a prompt for each frame, of which "a" and "b" are different."""
    apart = pack.submodule("sampling.prompts_apart")

    def make(shown, strength=MUCH, transition=1, negatives_too=False):
        generator = torch.Generator().manual_seed(7)
        prompts = {prompt: torch.randn(1, 7, 16, generator=generator) for prompt in sorted(set(shown))}
        conds = [[[torch.cat([prompts[prompt] for prompt in shown]), {"pooled_output": None}]], negative]
        if strength is not None:
            for i in (0, 1) if negatives_too else (0,):
                conds[i] = apart.kept_apart(conds[i], apart.Apart.of(shown, strength, transition))
        return tuple(conds)

    return make


@pytest.fixture
def made(pack, layouts, new_model, new_motion):
    """`made(contexts, motion models)`: an animated MODEL with the smallest of the UNets."""
    motion, evolved = pack.submodule("sampling.motion.applied"), pack.submodule("sampling.evolved")
    model = new_model(layouts["unusual"])

    def make(contexts=(), count=1):
        applied = ()
        for i in range(count):
            applied = motion.apply(new_motion(layouts["unusual"], seed=i + 1), motion.MotionSettings(), applied)
        return evolved.animate(model, applied, "autoselect", contexts)

    return make


@pytest.fixture
def contexts(pack):
    """`contexts(kind)`: windows of 4 frames with an overlap of 2."""
    windows, context = pack.submodule("sampling.windows.schedules"), pack.submodule("sampling.windows.context")
    cut = windows.WindowOptions("standard_static", 4, 2)
    whole = windows.WindowOptions(windows.ALL_FRAMES, 0)

    def make(kind):
        if kind == "none":
            return ()
        if kind == "static":
            return (context.Context(cut, "flat"),)
        views = context.ViewOptions(cut, "flat", shared=kind == "shared")
        return (context.Context(whole, "flat", views=views),)

    return make


def noise(*frames) -> torch.Tensor:
    """That of each of ``frames`` by its number."""
    return torch.stack([torch.randn((4, 8, 8), generator=torch.Generator().manual_seed(frame)) for frame in frames])


@pytest.mark.parametrize("kind", ["none", "static", "shared", "views"])
def test_frames_of_one_prompt_know_nothing_of_those_of_another(made, contexts, travel, sample, kind):
    """Other noise in the second half: the first half of the clip stays as it is, and does not without the option."""
    model = made(contexts(kind), count=2)
    for strength, alike in ((MUCH, True), (None, False)):
        conds = travel("aaabbb", strength)
        clips = [
            sample(model, frames=FRAMES, conds=conds, noise=noise(*range(3), *second), steps=2)
            for second in (range(3, 6), range(13, 16))
        ]
        error = (clips[0][:3] - clips[1][:3]).abs().max()
        assert (error < 1e-4) == alike, error
        assert not torch.allclose(clips[0][3:], clips[1][3:], atol=0.1)


def test_frames_of_one_prompt_see_each_other_as_without_the_option(made, travel, sample):
    """Kept apart, three frames are as a clip of their own at the places that they have; of one prompt, all is as it was."""
    model = made()
    one = sample(model, frames=FRAMES, conds=travel("aaaaaa", MUCH), steps=2)
    assert torch.equal(one, sample(model, frames=FRAMES, conds=travel("aaaaaa", None), steps=2))
    alone = sample(model, frames=3, conds=travel("aaa", None), noise=noise(*range(3)), steps=2)
    apart = sample(model, frames=FRAMES, conds=travel("aaabbb", 40.0), noise=noise(*range(6)), steps=2)
    mixed = sample(model, frames=FRAMES, conds=travel("aaabbb", None), noise=noise(*range(6)), steps=2)
    assert float((apart[:3] - alone).norm() / alone.norm()) < 1e-3
    assert float((mixed[:3] - alone).norm() / alone.norm()) > 0.1


@pytest.mark.parametrize("transition", [1, 4])
def test_in_a_transition_neighbours_see_each_other(made, travel, sample, transition):
    """Other noise in frame 3, the first of the second prompt: frame 2 sees it in a transition, else it does not."""
    model, conds = made(), travel("aaabbb", 20.0, transition)
    one, other = (
        sample(model, frames=FRAMES, conds=conds, noise=noise(0, 1, 2, frame, 4, 5), steps=1, cfg=1.0)
        for frame in (3, 13)
    )
    changed = (one - other).abs().amax((1, 2, 3))
    assert changed[3] > 0.1
    assert (changed[2] > 0.1) == (transition == 4)
    assert transition == 4 or changed[:3].max() < 1e-3


def test_runs_one_after_another_do_not_see_each_other(made, travel, sample):
    model = made()
    plain, apart = travel("aaabbb", None), travel("aaabbb", 5.0, transition=2)
    first, with_it, again, with_it_again = (
        sample(model, frames=FRAMES, conds=conds) for conds in (plain, apart, plain, apart)
    )
    assert torch.equal(first, again)
    assert torch.equal(with_it, with_it_again)
    assert not torch.allclose(first, with_it, atol=1e-2)


def test_one_call_or_two_for_positive_and_negative(made, travel, sample, monkeypatch):
    model, conds = made(), travel("aaabbb", 5.0)
    together = sample(model, frames=FRAMES, conds=conds, steps=1)
    both = sample(model, frames=FRAMES, conds=travel("aaabbb", 5.0, negatives_too=True), steps=1)
    assert torch.equal(together, both)
    monkeypatch.setattr(model.model, "memory_required", lambda *_args, **_kwargs: 1e30)
    torch.testing.assert_close(sample(model, frames=FRAMES, conds=conds, steps=1), together, rtol=1e-3, atol=1e-3)


def test_windows_of_the_host_are_as_ours(made, contexts, travel, sample):
    from comfy import context_windows

    host = made()
    host.model_options["context_handler"] = handler = context_windows.IndexListContextHandler(
        context_windows.get_matching_context_schedule("standard_static"),
        context_windows.get_matching_fuse_method("flat"),
        context_length=4,
        context_overlap=2,
    )
    handler.causal_window_fix = False
    conds = travel("aaabbb", 5.0)
    # as many steps as frames, less one: the oldest host's node fails with others
    of_host, ours = (sample(model, frames=FRAMES, conds=conds, steps=5) for model in (host, made(contexts("static"))))
    torch.testing.assert_close(of_host, ours, rtol=1e-3, atol=1e-3)


def test_windows_in_one_batch_are_as_windows_one_by_one(made, contexts, travel, sample, alike_in_one_batch):
    conds = travel("aaabbbbb", 5.0)
    alike_in_one_batch(made, lambda model: sample(model, frames=8, conds=conds, steps=2), contexts("static"))


def test_compiled_models_do_it_too(made, travel, sample):
    from comfy_extras.nodes_torch_compile import TorchCompileModel

    model, conds = made(), travel("aaabbb", 5.0)
    expected = sample(model, frames=FRAMES, conds=conds, steps=1)
    torch._dynamo.reset()
    try:
        compiled = TorchCompileModel.execute(model, "eager").result[0]
        made_of_it = sample(compiled, frames=FRAMES, conds=conds, steps=1)
    finally:
        torch._dynamo.reset()
    torch.testing.assert_close(made_of_it, expected, rtol=1e-3, atol=1e-3)


def test_a_path_that_is_followed_counts_besides(made, nodes, travel, sample):
    """Both are terms of the same logits: with the path, frames of two prompts still know nothing of each other."""
    sides = {"box_width": 0.5, "box_height": 0.5, "ease": "linear"}
    path = nodes("AnimateDiffMotionPath", places="0: 0.25,0.5  5: 0.75,0.5", **sides)
    model = made()
    followed = nodes("AnimateDiffFollowPath", model=model, path=path, noise=0.0, attention=2.0, end_percent=1.0)
    conds = travel("aaabbb")
    one, other = (
        sample(followed, frames=FRAMES, conds=conds, noise=noise(*range(3), *second), steps=2)
        for second in (range(3, 6), range(13, 16))
    )
    torch.testing.assert_close(one[:3], other[:3], rtol=1e-3, atol=1e-4)
    without = sample(model, frames=FRAMES, conds=conds, noise=noise(*range(6)), steps=2)
    assert not torch.allclose(one, without, atol=1e-2)


def test_a_schedule_of_another_length_is_told(made, travel, sample):
    with pytest.raises(ValueError, match=r"has 6 and the clip 4 frames\. Set max_length to 4, or keep_apart to 0"):
        sample(made(), frames=4, conds=travel("aaabbb"))


def test_models_without_motion_let_it_be(made, pack, layouts, new_model, travel, sample):
    still = pack.submodule("sampling.evolved").animate(new_model(layouts["unusual"]), (), "autoselect")
    for model in (still, new_model(layouts["unusual"])):
        clips = [sample(model, frames=FRAMES, conds=travel("aaabbb", strength)) for strength in (None, MUCH)]
        assert torch.equal(*clips)


class Clip:
    """Encodes a text as its length."""

    use_clip_schedule, patcher = False, None

    def tokenize(self, text):
        return text

    def add_hooks_to_dict(self, options):
        return options

    def encode_from_tokens(self, tokens, return_pooled=False):
        return torch.full((1, 7, 16), float(len(tokens))), None


def test_what_the_node_says_reaches_the_sampler(nodes, pack, made, sample, negative):
    apart = pack.submodule("sampling.prompts_apart")
    inputs = {"prompts": '"0:": "a cat", "3": "a dog"', "clip": Clip(), "interpolation": "linear", "max_length": FRAMES}
    plain = nodes("AnimateDiffPromptScheduling", **inputs)
    off = nodes("AnimateDiffPromptScheduling", **inputs, keep_apart=0.0, transition=4)
    on = nodes("AnimateDiffPromptScheduling", **inputs, keep_apart=5.0, transition=2)
    assert plain[0][1].keys() == off[0][1].keys()
    assert on[0][1][apart.KEY] == apart.Apart((0, 0, 0, 1, 1, 1), 5.0, 2)
    one = nodes("ADE_ConditionExtraction", conditioning=on, index=4)
    assert one[0][1].keys() == plain[0][1].keys()
    model = made()
    clips = [sample(model, frames=FRAMES, conds=(conds, negative)) for conds in (plain, off, on)]
    assert torch.equal(clips[0], clips[1])
    assert not torch.allclose(clips[0], clips[2], atol=1e-2)


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"keep_apart": -1.0}, "keep_apart is -1, but has to be at least 0"),
        ({"keep_apart": 5.0, "transition": 1000}, "transition is 1000, but can be at most 256"),
    ],
)
def test_what_cannot_be_meant_is_told(nodes, inputs, words):
    with pytest.raises(ValueError, match=words):
        nodes("AnimateDiffPromptScheduling", prompts='"0": "a"', clip=Clip(), interpolation="linear", **inputs)
