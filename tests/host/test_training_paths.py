"""Training along paths: noise and attention of a step are those of sampling, and all else is as without."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from animatediff_tests_training import FRAMES, assert_same_lora


@pytest.fixture
def along(pack, training, options):
    """`along("0: 0.2,0.5  5: 0.8,0.5", …)`: training options with a path for each clip; `noise=…`, `attention=…` and other options."""
    places, paths = pack.submodule("scheduling.places"), pack.submodule("sampling.paths.path")
    form = places.boxes(paths.FARTHEST, (paths.SMALLEST, paths.LARGEST))

    def make(*texts, noise=1.0, attention=0.0, words=(), checkpoints=None, **more):
        made = [paths.from_numbers(places.parse_places("places", text, form), 0.5, 0.5, "linear") for text in texts]
        along = training("settings").PathSettings(tuple(made), noise, attention, words)
        return options(checkpoints, paths=along, **more)

    return make


@pytest.fixture
def noises(training, monkeypatch):
    """The noise of each step that is trained, ``(clips, frames, c, h, w)``, and the latents that it is added to."""
    seen = []
    unet = training("unet").TrainingUNet
    add_noise = unet.add_noise

    def watched(self, latents, noise, sigma):
        seen.append((noise.clone(), latents.clone()))
        return add_noise(self, latents, noise, sigma)

    monkeypatch.setattr(unet, "add_noise", watched)
    return seen


WAYS = ("0: 0.2,0.5  5: 0.8,0.5", "0: 0.5,0.2  5: 0.5,0.8", "0: 0.8,0.8  5: 0.2,0.2")


def test_the_noise_of_a_step_is_what_sampling_draws_along_the_path(
    pack, training, train_lora, along, noises, new_latents, monkeypatch
):
    """Of the path of the clip that is shown, for the frames of it that are, from a seed of its own each time."""
    latents = new_latents(3, frames=6)
    train_lora(latents=latents, steps=1, batch=3)
    drawn, asked = pack.submodule("sampling.paths.drawn").noise_along, []
    monkeypatch.setattr(training("trainer"), "noise_along", lambda *given: asked.append(given) or drawn(*given))
    options = along(*WAYS, noise=0.7)
    train_lora(latents=latents, steps=2, batch=3, options=options)
    (plain, _), *steps = noises
    shown = [clip for _, clips in steps for clip in clips]
    made = [noise for noise, _ in steps for noise in noise]
    assert torch.equal(torch.stack([given[0] for given in asked[:3]]), plain)  # chance is as without paths
    assert len({given[2] for given in asked}) == 6
    starts = set()
    for (noise, path, seed, strength, start), clip, found in zip(asked, shown, made, strict=True):
        number = options.paths.paths.index(path)
        assert torch.equal(latents[number]["samples"][start : start + FRAMES], clip)
        assert torch.equal(found, drawn(noise, path, seed, strength, start))
        assert not torch.allclose(found, noise)
        assert strength == 0.7
        starts.add(start)
    assert len(starts) > 1


def test_follow_path_draws_its_noise_by_the_same_function(pack, training):
    drawn = pack.submodule("sampling.paths.drawn").noise_along
    assert pack.submodule("sampling.paths.follow").noise_along is drawn
    assert training("trainer").noise_along is drawn


def test_without_noise_a_path_changes_nothing_but_chance(train_lora, along, noises):
    train_lora(steps=1)
    train_lora(steps=1, options=along(WAYS[0], noise=0.0))
    (plain, _), (along_path, _) = noises
    assert torch.equal(plain, along_path)


def test_pairs_of_noise_stay_opposite(train_lora, along, noises):
    train_lora(steps=1, batch=2, noise_pairs=True, options=along(WAYS[0]))
    (first, second), _ = noises[0]
    assert torch.equal(first, -second)


@pytest.fixture
def boxes(training, monkeypatch):
    """What each prediction that is trained gets to keep its attention in boxes, and the conditionings of its clips."""
    seen = []
    unet = training("unet").TrainingUNet
    prediction = unet.prediction

    def watched(self, *given):
        seen.append((given[6] if len(given) > 6 else None, given[3]))
        return prediction(self, *given)

    monkeypatch.setattr(unet, "prediction", watched)
    return seen


def test_attention_keeps_to_the_boxes_of_the_clip_and_to_words_of_its_caption(
    pack, train_lora, along, noises, boxes, new_latents, positive
):
    """Clip by clip, each with its own path at the frames that are shown; the empty text has no words."""
    words = pack.submodule("sampling.paths.words").Words
    of_clips = tuple(words((frozenset({1 + i}),)) for i in range(3))
    latents = new_latents(3, frames=6)
    options = along(*WAYS, attention=9.0, words=of_clips)
    train_lora(latents=latents, conditionings=[positive] * 3, steps=4, batch=3, options=options)
    assert len(boxes) == 12
    starts, empty = set(), 0
    shown = [clip for _, clips in noises for clip in clips]
    for (kept, (conditioning,)), clip in zip(boxes, shown, strict=True):
        stretches = [(i, start) for i in range(3) for start in range(3)]
        number, start = next(
            (i, start) for i, start in stretches if torch.equal(latents[i]["samples"][start : start + FRAMES], clip)
        )
        expected = options.paths.paths[number].at(6)[:, start : start + FRAMES]
        assert torch.equal(kept.boxes, expected)
        assert kept.strength == 9.0
        assert kept.words.places == ((frozenset(),) if conditioning == 3 else of_clips[number].places)
        starts.add(start)
        empty += conditioning == 3
    assert len(starts) > 1
    assert 0 < empty < 12


@pytest.mark.parametrize("checkpointing", [False, True])
def test_attention_changes_what_is_learned_with_checkpointing_or_without(train_lora, along, checkpointing):
    plain, _ = train_lora(steps=1, batch=2, checkpointing=checkpointing, options=along(*WAYS))
    kept, _ = train_lora(steps=1, batch=2, checkpointing=checkpointing, options=along(*WAYS, attention=9.0))
    other, _ = train_lora(steps=1, batch=2, checkpointing=not checkpointing, options=along(*WAYS, attention=9.0))
    assert any(not torch.equal(up, plain.pairs[name][1]) for name, (_, up) in kept.pairs.items())
    for name, (down, up) in kept.pairs.items():
        torch.testing.assert_close((down, up), other.pairs[name], msg=name)


@pytest.mark.parametrize("attention", [0.0, 9.0])
@pytest.mark.parametrize("train", ["train_lora", "train_module"])
def test_three_steps_and_three_more_are_six_bit_for_bit(request, along, train, attention):
    run = request.getfixturevalue(train)
    along = partial(along, *WAYS, attention=attention)
    whole, expected = run(steps=6, options=along())
    run(steps=3, options=along(checkpoints={"every": 3}))
    found, record = run(steps=6, options=along(checkpoints={"go_on": True}))
    assert record.losses == expected.losses
    if train == "train_lora":
        assert_same_lora(found, whole)
    else:
        for name, value in whole.model.state_dict().items():
            assert torch.equal(found.model.state_dict()[name], value), name


def test_other_paths_than_before_are_told(train_lora, along, caplog):
    train_lora(steps=1, options=along(WAYS[0], checkpoints={}))
    train_lora(steps=2, options=along(WAYS[1], checkpoints={"go_on": True}))
    assert "paths noise 1, " in caplog.text
    train_lora(steps=3, options=along(WAYS[1], attention=9.0, checkpoints={"go_on": True}))
    assert ", attention 9, " in caplog.text


def test_a_preview_is_drawn_along_the_path_of_the_first_clip(training, train_lora, along, monkeypatch):
    started = []
    draw = training("unet").TrainingUNet.draw

    def watched(self, noise, *rest):
        started.append((noise.clone(), rest[-1]))
        return draw(self, noise, *rest)

    monkeypatch.setattr(training("unet").TrainingUNet, "draw", watched)
    train_lora(steps=1, preview_every=1)
    train_lora(steps=1, preview_every=1, options=along(*WAYS))
    train_lora(steps=1, preview_every=1, options=along(*WAYS, attention=9.0))
    assert not torch.allclose(*(noise for noise, _ in started[:2]))
    first = along(*WAYS).paths.paths[0]
    assert [boxes and boxes.boxes.tolist() for _, boxes in started] == [None, None, first.at(FRAMES).tolist()]


@pytest.mark.usefixtures("nothing_unloaded")
def test_paths_that_do_not_fit_the_clips_are_refused(pack, training, train_lora, train_adapter, along, options):
    with pytest.raises(ValueError, match=r"There are 3 clips but 2 paths\. Connect one for each to Training Paths"):
        train_lora(options=along(*WAYS[:2]))
    words = pack.submodule("sampling.paths.words").Words.of_all(1)
    with pytest.raises(
        ValueError, match=r"There are 3 clips but 2 prompts\. Connect the caption of each to Training Paths"
    ):
        train_lora(options=along(*WAYS, attention=9.0, words=(words,) * 2))
    nothing = training("settings").PathSettings((pack.submodule("sampling.paths.path").MotionPath(),))
    with pytest.raises(ValueError, match="Path 1 of Training Paths has no box and no camera"):
        train_lora(options=options(paths=nothing))
    with pytest.raises(ValueError, match=r"single frames are trained here\. Take it out of options"):
        train_adapter(options=along(WAYS[0]))


def test_the_node_takes_a_list_of_paths_and_joins_other_options(pack, option, along):
    paths = along(*WAYS).paths.paths
    plain = dict.fromkeys(("ema", "min_snr_gamma", "noise_offset"), 0.0)
    warm = option("Options", warmup_steps=3, accumulate=1, rslora=False, ranks="", **plain)
    found = option("Paths", paths=list(paths), noise=[0.5], prev_options=[warm])
    assert found.paths.paths == paths
    assert (found.paths.noise, found.warmup_steps) == (0.5, 3)
    assert (found.paths.attention, found.paths.words) == (0.0, ())
    with pytest.raises(ValueError, match="noise"):
        option("Paths", paths=list(paths), noise=[1.5])
    with pytest.raises(ValueError, match="attention"):
        option("Paths", paths=list(paths), noise=[1.0], attention=[-1.0])
    with pytest.raises(ValueError, match="The input noise got a list of 2 values"):
        option("Paths", paths=list(paths), noise=[1.0, 0.5])


def test_the_node_looks_up_words_of_paths_in_the_caption_of_each_clip(option, along, pack, toyworld):
    clip = toyworld("text_encoder").clip()
    paths = list(along(*WAYS).paths.paths)
    captions = ["a red circle", "a blue square", "a triangle"]
    kept = partial(option, "Paths", noise=[1.0], attention=[30.0])
    found = kept(paths=paths, clip=[clip], prompts=captions).paths
    assert [len(words.places[0]) for words in found.words] == [3, 3, 2]
    assert len(kept(paths=paths[:1], clip=[clip], prompts=captions).paths.words) == 3
    of_all = pack.submodule("sampling.paths.words").Words.of_all(1)
    assert kept(paths=paths).paths.words == (of_all,) * 3
    with pytest.raises(ValueError, match=r"3 paths and 2 prompts\. Connect as many prompts as paths"):
        kept(paths=paths, clip=[clip], prompts=captions[:2])
    with pytest.raises(ValueError, match=r"clip but no prompts .* Connect the captions"):
        kept(paths=paths, clip=[clip])
