"""The clip moves on the sampler's node while it is sampled, through the host's channel for previews; losses on a training's."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

FRAMES = 6


@pytest.fixture
def preview_method(host_path):
    """`preview_method("taesd")`: ComfyUI's setting "Live preview method"; latent2rgb in these tests."""
    import latent_preview

    latent_preview.set_preview_method("latent2rgb")
    yield latent_preview.set_preview_method
    latent_preview.set_preview_method()


@pytest.fixture
def watched(preview_method):
    """`with watched("7") as shown:` a node that runs, seen by a front end; `shown` gets what its previews are made of."""
    from comfy_execution import progress
    from comfy_execution.utils import CurrentNodeContext

    class FrontEnd(progress.ProgressHandler):
        def __init__(self):
            super().__init__("front end of a test")
            self.shown = []

        def update_handler(self, node_id, value, max_value, state, prompt_id, image=None):
            if image is not None:
                self.shown.append(
                    SimpleNamespace(node=node_id, place=(value, max_value), kind=image[0], picture=image[1])
                )

    @contextmanager
    def watch(node_id: str):
        front_end = FrontEnd()
        progress.add_progress_handler(front_end)
        progress.get_progress_state().update_progress(node_id, 1, 3)
        try:
            with CurrentNodeContext("prompt", node_id):
                yield front_end.shown
        finally:
            progress.get_progress_state().unregister_handler(front_end.name)

    return watch


def until(condition) -> bool:
    """Wait for it, as a slow step would."""
    end = time.monotonic() + 10
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


def players() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "AnimateDiff preview"]


def colours(picture) -> bytes:
    return picture.tobytes()


@pytest.fixture
def expected(preview_method):
    """The pictures of a clip, as the host draws them."""
    import comfy.latent_formats
    import latent_preview

    def draw(latents: torch.Tensor) -> list[bytes]:
        previewer = latent_preview.get_previewer(torch.device("cpu"), comfy.latent_formats.SD15())
        return [colours(previewer.decode_latent_to_preview(frame)) for frame in latents.split(1)]

    return draw


@pytest.fixture(params=["all at once", "windows"])
def whole_or_in_windows(request, pack, new_model, new_motion, animate):
    model = animate(new_model(), new_motion())
    if request.param == "windows":
        nodes = {node.GET_SCHEMA().node_id: node for node in pack.submodule("nodes").served()}
        (contexts,) = nodes["ADE_StandardStaticContextOptions"].execute(context_length=4, context_overlap=2).result
        applied = pack.submodule("sampling.motion.applied")
        motion = applied.apply(new_motion(), applied.MotionSettings())
        model = pack.submodule("sampling.evolved").animate(new_model(), motion, "autoselect", contexts)
    return model


def test_all_frames_are_played_in_turn_while_a_step_takes_its_time(whole_or_in_windows, sample, watched, expected):
    clips, begins = [], []

    def callback(step, denoised, *_):
        if step == 1:  # a slow step; from here the pictures of the one before it are seen
            begins.append(len(shown))
            assert until(lambda: len(shown) >= begins[0] + FRAMES + 2)
            begins.append(len(shown))
        clips.append(denoised.clone())

    with watched("7") as shown:
        sample(whole_or_in_windows, frames=FRAMES, callback=callback)
    frames = expected(clips[0])
    assert len(set(frames)) == FRAMES
    played = [frames.index(colours(one.picture)) for one in shown[begins[0] : begins[1]]]
    assert played == [(played[0] + i) % FRAMES for i in range(len(played))]
    assert {(one.node, one.place, one.kind) for one in shown} == {("7", (1, 3), "JPEG")}
    assert players() == []


def test_nobody_sees_it(new_model, new_motion, animate, sample, watched, preview_method):
    """Previews turned off, a single frame, a sampler that shows nothing, a script."""
    model = animate(new_model(), new_motion())
    with watched("7") as shown:
        sample(model, frames=1, callback=lambda *_: None)
        sample(model)
        preview_method("none")
        sample(model, callback=lambda *_: None)
    preview_method("latent2rgb")
    sample(model, callback=lambda *_: None)
    assert shown == []
    with watched("7") as shown:  # the same run, seen
        sample(model, callback=lambda *_: None)
    assert len(shown) >= 3


def test_the_clip_is_the_same_and_the_player_ends_with_the_run(new_model, new_motion, animate, sample, watched):
    model = animate(new_model(), new_motion())
    unseen = sample(model)

    def stop(step, *_):
        if step == 1:
            raise KeyboardInterrupt

    with watched("7"):
        assert torch.equal(sample(model, callback=lambda *_: None), unseen)
        with pytest.raises(KeyboardInterrupt):
            sample(model, callback=stop)
        assert players() == []


@pytest.fixture
def slow_drawing(preview_method, monkeypatch):
    """The frames that are drawn, each of which takes as long as a decoder may: longer than a step of these tests."""
    import latent_preview

    drawn = []
    draw = latent_preview.Latent2RGBPreviewer.decode_latent_to_preview

    def slow(self, latents):
        drawn.append(latents)
        time.sleep(0.02)
        return draw(self, latents)

    monkeypatch.setattr(latent_preview.Latent2RGBPreviewer, "decode_latent_to_preview", slow)
    return drawn


def test_what_is_drawn_in_a_step_costs_a_small_part_of_it(
    animate, new_model, new_motion, sample, watched, slow_drawing
):
    """All frames once, so that there is a clip to play; behind it only as many as the step has time for."""
    counts = []
    with watched("7"):
        sample(
            animate(new_model(), new_motion()), frames=6, steps=5, callback=lambda *_: counts.append(len(slow_drawing))
        )
    assert counts == [0, 6, 7, 8, 9]


def test_a_preview_that_fails_does_not_end_the_run(
    animate, new_model, new_motion, sample, watched, monkeypatch, caplog
):
    import latent_preview

    def fail(*_):
        raise RuntimeError("no memory for a decoder")

    monkeypatch.setattr(latent_preview.Latent2RGBPreviewer, "decode_latent_to_preview", fail)
    with watched("7") as shown:
        sample(animate(new_model(), new_motion()), callback=lambda *_: None)
    assert shown == []
    assert caplog.text.count("goes on without it") == 1


def test_the_previewer_of_another_pack_is_left_to_it(animate, new_model, new_motion, sample, watched, monkeypatch):
    """It may play clips itself."""
    import latent_preview

    class Other(latent_preview.LatentPreviewer):
        pass

    monkeypatch.setattr(latent_preview, "get_previewer", lambda *_: Other())
    with watched("7") as shown:
        sample(animate(new_model(), new_motion()), callback=lambda *_: None)
    assert shown == []


# -- training ----------------------------------------------------------------------------------------------------------


def test_a_training_shows_its_losses_and_plays_its_preview(train_lora, watched, on_the_node):
    with on_the_node("7") as texts, watched("7") as shown:
        train_lora(steps=3, preview_every=2, node_id="7")
    assert {one.node for one in shown} == {"7"}
    first, last = shown[0].picture, shown[-1].picture
    assert first.width == last.width
    assert first.height < last.height  # only the losses; with a clip below them
    assert colours(last.crop((0, 0, *first.size))) != colours(first)
    assert [text.rpartition(", ")[2] for _, text in texts][-1] == "0 s left"
    assert players() == []


def test_frames_of_the_preview_move_below_one_picture_of_the_losses(pack, training):
    from PIL import Image

    record = training("record").TrainingRecord()
    for step in range(500):
        record.add(1 / (step + 1) + 0.1 * (step % 7), 1e-3, 1.0)
    clip = [Image.new("RGB", (64, 32), (40 * frame, 0, 0)) for frame in range(4)]
    (losses,) = training("picture").pictures(record, 1000, [])
    pictures = training("picture").pictures(record, 1000, clip)
    assert len({colours(picture) for picture in pictures}) == 4
    assert {colours(picture.crop((0, 0, *losses.size))) for picture in pictures} == {colours(losses)}
    record.validation[500] = 0.7
    assert colours(training("picture").pictures(record, 1000, [])[0]) != colours(losses)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s left"), (59.6, "1:00 min left"), (725, "12:05 min left"), (12_060, "3:21 h left")]
)
def test_time_left(pack, seconds, text):
    assert pack.submodule("host.training").time_left(seconds) == text
