"""What has no end by itself: long schedules, huge texts, offsets, lists. Each has a bound in words, and heeds Stop.

Sizes here would take minutes or all memory where cost is not linear; the time limit of the tests is what fails then.
"""

from __future__ import annotations

import logging
import math

import pytest
import torch

pytestmark = pytest.mark.timeout(120)


class Clip:
    """Encodes any text as ``(1, tokens, channels)`` of the text's length."""

    use_clip_schedule, patcher = False, None

    def __init__(self, tokens: int = 1, channels: int = 4, stop_at: int | None = None):
        self.shape, self.stop_at, self.texts = (1, tokens, channels), stop_at, []

    def tokenize(self, text):
        return text

    def add_hooks_to_dict(self, options):
        return options

    def encode_from_tokens(self, tokens, return_pooled=False):
        self.texts.append(tokens)
        if len(self.texts) == self.stop_at:
            stop()
        return torch.full(self.shape, float(len(tokens))), None


def stop() -> None:
    import comfy.model_management

    comfy.model_management.interrupt_current_processing()


@pytest.fixture
def stopped(host_path):
    """`with stopped: …` expects that what runs heeds Stop."""
    import comfy.model_management

    yield pytest.raises(comfy.model_management.InterruptProcessingException)
    comfy.model_management.interrupt_current_processing(False)


@pytest.fixture
def prompts(pack):
    """`prompts(text, clip, …)`: the cond of Prompt Scheduling."""
    nodes = {node.__name__: node for node in pack.submodule("nodes.scheduling").NODES}
    return lambda text, clip=None, **inputs: (
        nodes["ADE_PromptScheduling"].execute(prompts=text, clip=clip or Clip(), **inputs).args[0][0][0]
    )


@pytest.fixture
def values(pack):
    nodes = {node.__name__: node for node in pack.submodule("nodes.scheduling").NODES}
    return lambda text, **inputs: nodes["ADE_ValueScheduling"].execute(values=text, **inputs).args[0]


@pytest.fixture
def strengths(pack):
    return pack.submodule("scheduling.strengths")


# Prompts


def test_a_prompt_far_away(prompts):
    assert prompts('0="a", 20000="b"').shape == (20001, 1, 4)


@pytest.mark.parametrize("index", ["1000000", "1000000000", "9" * 5000, "-1000000000", "0." + "0" * 5000 + "1"])
def test_indices_without_end(prompts, index):
    with pytest.raises(ValueError, match=r"prompts, line 1, character 1: expected (the|an) index .*, found ") as error:
        prompts(f'{index}="b"')
    assert len(str(error.value)) < 400


def test_encoded_prompts_that_would_fill_the_memory_are_refused_after_the_first(prompts):
    clip = Clip(tokens=77, channels=768)
    with pytest.raises(
        ValueError, match=r"prompts of 100001 frames would take 22\.0 GiB .* at most 8 GiB .* max_length"
    ):
        prompts('0="a", 100000="b"', clip)
    assert clip.texts == ["a"]


def test_so_are_a_long_prompt_and_many_texts(prompts, pack):
    class Growing(Clip):
        def encode_from_tokens(self, tokens, return_pooled=False):
            cond, _ = super().encode_from_tokens(tokens)
            return cond.expand(1, 1 << 20 if tokens == "long" else 1, 4), None

    clip = Growing()
    with pytest.raises(ValueError, match="shorten the longest prompt"):
        prompts('0="a", 1000="long", 1001="never"', clip)
    assert clip.texts == ["a", "long"]
    values = (("a", tuple(range(1000))),)
    with pytest.raises(ValueError, match=r"texts that values_replace makes .* more than 100000000 characters"):
        prompts('0="{} `a`"'.format("x" * 1_000_000), max_length=1000, values_replace=values)


def test_prompts_heed_stop(prompts, stopped, monkeypatch, pack):
    with stopped:
        prompts('0="a", 20000="b"', clip := Clip(stop_at=1))
    assert clip.texts == ["a"]  # while frames are counted
    with stopped:
        prompts('0="a", 20000="b"', clip := Clip(stop_at=2))
    module, frames = pack.submodule("scheduling.prompts"), []

    def slow(start, end, weight):
        frames.append(weight)
        if len(frames) == 7:
            stop()
        return start

    monkeypatch.setitem(module.INTERPOLATIONS, "lerp", slow)
    pack.submodule("nodes.scheduling")
    with stopped:
        prompts('0="a", 20000="b"')
    assert len(frames) == 7


def test_a_text_of_a_megabyte(prompts, values, strengths):
    entries = ", ".join(f'{i} = "prompt {i}"' for i in range(45_000))
    assert len(entries) > 1_000_000
    clip = Clip()
    assert prompts(entries, clip).shape[0] == 45_000
    assert clip.texts[-1] == "prompt 44999"
    assert prompts('0="{}", 2000="b"'.format("word " * 200_000)).shape[0] == 2001
    assert len(values(",".join(f"{i}={i}" for i in range(90_000)))) == 90_000
    for text in ("{" * 1_000_000, '0="' + "x" * 1_000_000, ":" * 1_000_000, "0=" + "9" * 1_000_000, " " * 1_000_000):
        for read in (prompts, values):
            with pytest.raises(ValueError, match=r"line 1, character \d+: expected") as error:
                read(text)
            assert len(str(error.value)) < 500


def test_keys_of_a_long_text_are_looked_up_once(prompts, caplog):
    text = " ".join(f"`k{i}`" for i in range(100_000))
    assert prompts(f'0="{text}", 1000="b"').shape[0] == 1001
    assert "`k0`, `k1`" in caplog.text
    assert len(caplog.text) < 1000


# Values


def test_deep_nesting(values):
    deep = 500_000
    assert values("0 = " + "([" * deep + "7" + "])" * deep) == [7.0]
    with pytest.raises(ValueError, match="a number behind 0 ="):
        values("0 = " + "(" * deep + "7" + ")" * (deep - 1))


def test_a_schedule_that_goes_back_and_forth(values, prompts):
    text = ",".join("0={0},999999={0}" for _ in range(50_000))
    assert len(values("0=1,999999=2,0=3,999999=4")) == 1_000_000
    for read, value in ((values, "1"), (prompts, '"a"')):
        with pytest.raises(
            ValueError, match=r"back.* over more than 5000000 frames in all\. Write them in ascending order"
        ):
            read(text.replace("{0}", value), max_length=4)


def test_values_heed_stop(values, stopped):
    with stopped:
        stop()
        values("0=1, 999999=2")


def test_the_log_shows_the_beginning_of_a_huge_schedule(prompts, values, caplog):
    with caplog.at_level(logging.INFO):
        values("0=1, 999999=2", print_schedule=True)
        assert "999 = " in caplog.text
        assert "\n1000 = " not in caplog.text
        assert "and 999000 more frames" in caplog.text
        assert len(caplog.text) < 100_000
        caplog.clear()
        prompts('0="{}", 9="b"'.format("x" * 1_000_000), print_schedule=True)
        assert 1000 < len(caplog.text) < 20_000


# Strengths


@pytest.mark.parametrize("interpolation", ["hold", "linear"])
def test_a_strength_for_each_of_10000_frames(strengths, interpolation):
    text = "\n".join(f"{i}: {i % 7}" for i in range(10_000))
    assert strengths.frame_strengths("frame_strengths", text, interpolation).flatten().tolist() == [
        float(i % 7) for i in range(10_000)
    ]


def test_looking_up_a_strength_does_not_read_all_of_them(pack):
    schedule = pack.submodule("motion_models.network.strength").StrengthSchedule(
        tuple((i / 400_000, float(i)) for i in range(400_001))
    )
    assert [schedule.at(i / 400_000) for i in range(0, 400_001)] == list(range(400_001))


def test_strengths_have_bounds(strengths):
    many = ",".join(f"{i / 20_000}: 1" for i in range(20_000))
    with pytest.raises(ValueError, match="expected no more than 10000 entries, found '0'"):
        strengths.strength_schedule("strengths", many)
    assert len(strengths.strength_schedule("strengths", many[: many.index(",0.5:")]).points) == 10_000
    for number in ("1e999", "-1e39", "9" * 5000):
        with pytest.raises(ValueError, match=r"a strength \(a number\) of no more than 3\.4e\+38 behind '0:'"):
            strengths.strength_schedule("strengths", f"0: {number}")
    with pytest.raises(ValueError, match="a frame number between 0 and 9999"):
        strengths.frame_strengths("frame_strengths", f"{'9' * 5000}: 1")


# Noise


@pytest.fixture
def noise(pack):
    return pack.submodule("sampling.noise.initial")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64])
@pytest.mark.parametrize("shape", [(4, 8, 8), (4, 3, 3), (1, 1, 1)])
def test_skipped_frames_leave_the_stream_as_it_is(noise, shape, dtype, monkeypatch):
    monkeypatch.setattr(noise, "CHUNK", 16 * math.prod(shape) * 3)
    for frames in (1, 3, 16):
        for offset in (0, 1, 15, 16, 17, 31, 32, 33, 47, 48, 64, 100, 1000):
            latents = torch.zeros(frames, *shape, dtype=dtype)
            made = noise.Source(batch_offset=offset).draw(5, latents, None)
            generator = torch.Generator().manual_seed(5)
            assert made.equal(torch.randn((frames + offset, *shape), generator=generator, dtype=dtype)[offset:]), offset


def test_skipping_takes_no_memory(noise, monkeypatch):
    drawn, randn = [], torch.randn
    monkeypatch.setattr(
        torch, "randn", lambda shape, **options: drawn.append(math.prod(shape)) or randn(shape, **options)
    )
    noise.Source(batch_offset=100_000).draw(5, torch.zeros(2, 4, 8, 8), None)
    assert sum(drawn) == 100_002 * 4 * 8 * 8
    assert max(drawn) <= noise.CHUNK


def test_skipping_heeds_stop(noise, stopped):
    with stopped:
        stop()
        noise.Source(batch_offset=1_000_000).draw(5, torch.zeros(2, 4, 64, 64), None)


LARGEST = 9007199254740991


def test_offsets_have_a_bound_where_frames_are_drawn(noise, pack):
    latents = torch.zeros(16, 4, 64, 64)

    def settings(batch_offset, generator="comfy"):
        source = noise.Source(generator=generator, batch_offset=batch_offset)
        layer = noise.NoiseLayer("add", noise.Source(generator="use existing", batch_offset=batch_offset))
        return [noise.NoiseSettings(source), noise.NoiseSettings(noise.Source(generator=generator), (layer,))]

    for made in settings(batch_offset=LARGEST):
        with pytest.raises(
            noise.NoiseError, match=f"batch_offset .* skips {LARGEST} frames .* at most 1000000 .* Lower it"
        ):
            made.check(latents)
    for made in (*settings(batch_offset=1_000_000), *settings(generator="auto1111", batch_offset=LARGEST)):
        made.check(latents)
    for made in settings(batch_offset=999_999):
        with pytest.raises(noise.NoiseError, match="iter_batch_offset for each iteration"):
            made.check(latents, more=2)
    with pytest.raises(noise.NoiseError, match=r"100016 frames, of which .* takes 6\.1 GiB of the GPU's memory"):
        noise.NoiseSettings(noise.Source(generator="comfy [gpu]", batch_offset=100_000)).check(latents)
    noise.NoiseSettings(noise.Source(generator="comfy [gpu]", batch_offset=10_000)).check(latents)
    far = noise.Source(generator="auto1111", batch_offset=LARGEST).draw(2**64 - 1, latents, None)
    assert far[1].equal(noise.Source(generator="auto1111").draw(LARGEST, latents, None)[0])


def test_iterations_are_reckoned_with_before_the_first(noise, pack):
    from types import SimpleNamespace

    iterations = pack.submodule("sampling.noise.iterations").Iterations(count=3, batch_offset=600_000)
    start = pack.submodule("sampling.noise.start").StartNoise(noise.NoiseSettings(), iterations)
    with pytest.raises(noise.NoiseError, match="skips 1200000 frames"):
        start.check(SimpleNamespace(latents=torch.zeros(2, 4, 8, 8)))


# Poses, masks, lists


def test_as_many_poses_as_a_clip_can_have_frames(pack):
    camera = pack.submodule("motion_models.adapters.camera")
    most = camera.moving([("Pan Left", 1.0), ("Roll Clockwise", 0.5)], 1.0, camera.MOST_POSES)
    half = most[: camera.MOST_POSES // 2]
    assert camera.joined(half, half)[-1] != half[-1]
    for poses in (lambda: camera.moving([("Static", 1.0)], 1.0, 10**9), lambda: camera.joined(most, most[:1])):
        with pytest.raises(
            ValueError, match=r"camera poses, but a clip has at most 262144 frames\. Lower frame_length"
        ):
            poses()


def test_masks_over_more_frames_than_memory_holds_are_refused(pack, strengths):
    multival = pack.submodule("sampling.strength.multival")
    mask = torch.zeros(1).expand(1, 4096, 4096)
    numbers = [1.0] * 1000
    for make in (
        lambda: multival.of_numbers(numbers, mask),
        lambda: multival.scaled_mask(mask, 0.0, numbers, relative=False),
        lambda: strengths.masks_multiplied(mask, torch.ones(1000, 1, 1)),
        lambda: multival.combined(multival.of_numbers(numbers), mask),
    ):
        with pytest.raises(
            ValueError, match=r"A mask of 4096 x 4096 for each of 1000 frames takes 62\.5 GiB; at most 4 GiB"
        ):
            make()


def test_a_list_with_a_number_for_each_of_a_million_frames(pack):
    nodes = {node.__name__: node for node in pack.submodule("nodes").NODES}
    numbers = [0.5] * 1_000_000
    assert nodes["ADE_MultivalDynamicFloats"].execute(floats=numbers).result[0].shape == (1_000_000, 1, 1)
    (replacements,) = nodes["ADE_ValuesReplace"].execute(value_key="a", floats=numbers).result
    text = nodes["ADE_PromptScheduling"].execute
    conditioning = text(prompts='0="`a`"', clip=(clip := Clip()), values_replace=replacements, max_length=500).result[0]
    assert conditioning[0][0].shape[0] == 500
    assert clip.texts == ["0.5"]
    assert nodes["ADE_PerBlock_SD15_FromFloats"].execute(effect_21_floats=numbers).result[0].entries
    assert nodes["ADE_FloatToFloats"].execute(FLOAT=numbers).result[0] == numbers
