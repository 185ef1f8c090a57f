"""Video Folder to Clips: what comes out, what is kept, and that training takes it."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from animatediff_tests_tiny import CONTEXT
from animatediff_tests_videos import frame_numbers, greys, write_video

FRAMES = 4


class Vae:
    """A VAE whose latents are the greys of 8 x 8 pixels, and which counts the pictures that it encodes."""

    latent_channels, latent_dim = 4, 2

    def __init__(self, weight: float = 0.0):
        self.weight = torch.full((3,), weight)
        self.patcher = SimpleNamespace(
            get_key_patches=lambda: {"weight": [(self.weight, lambda a: a)]}, forced_hooks=None
        )
        self.encoded = 0
        self.most = 0

    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        self.encoded += len(pictures)
        self.most = max(self.most, len(pictures))
        small = torch.nn.functional.avg_pool2d(pictures.movedim(-1, 1), 8)
        return small.mean(1, keepdim=True).expand(-1, 4, -1, -1).contiguous()

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return latents[:, :3].movedim(1, -1)


class Clip:
    """A text encoder that counts the texts it encodes."""

    use_clip_schedule, layer_idx, tokenizer_options = False, None, {}

    def __init__(self, weight: float = 0.0):
        self.patcher = Vae(weight).patcher
        self.texts: list[str] = []

    def tokenize(self, text: str) -> str:
        return text

    def add_hooks_to_dict(self, options: dict) -> dict:
        return options

    def encode_from_tokens(self, tokens: str, return_pooled: bool = False):
        self.texts.append(tokens)
        return torch.full((1, 7, CONTEXT), float(len(tokens))), torch.zeros(1, CONTEXT)


@pytest.fixture
def node(pack):
    return pack.submodule("nodes.dataset").VideoFolderToClips


@pytest.fixture
def folder(input_folder, no_cache):
    """Five videos in several folders and containers, and what is none."""
    path = input_folder / "clips"
    write_video(path / "a.mp4", greys(20))
    write_video(path / "b.mkv", greys(20), sound=True)
    write_video(path / "3_often" / "c.webm", greys(20, 96, 48))
    write_video(path / "short.mp4", greys(3))
    (path / "broken.mp4").write_text("none")
    (path / "a.txt").write_text("a cat")
    (path / "3_often" / "c.txt").write_text("a dog")
    return path


@pytest.fixture
def make(node, folder):
    """`make(crop="buckets")`: the outputs of the node, run as the host does."""

    def run(vae=None, clip=None, **changes) -> SimpleNamespace:
        settings = {"folder": "clips", "width": 64, "height": 64, "crop": "center", "frames": FRAMES, "frame_rate": 0.0}
        settings |= {"stride": 2, "clips_per_video": 1, "split_at_cuts": False, "default_caption": "something"}
        with torch.inference_mode():
            result = node.execute(vae=vae or Vae(), clip=clip or Clip(), **{**settings, **changes}).result
        return SimpleNamespace(
            **dict(zip(("latents", "positive", "negative", "sheet", "summary"), result, strict=True))
        )

    return run


def test_clips_captions_and_repeats_come_out_in_one_order(make):
    clip = Clip()
    made = make(clip=clip)
    assert [latent["samples"].shape for latent in made.latents] == [(FRAMES, 4, 8, 8)] * 5
    assert len({id(latent) for latent in made.latents}) == 3  # what is repeated is there once
    texts = [float(conditioning[0][0].mean()) for conditioning in made.positive]
    assert texts == [len("a dog")] * 3 + [len("a cat"), len("something")]
    assert made.negative[0][0].mean() == 0
    assert sorted(clip.texts) == ["", "a cat", "a dog", "something"]
    greys_of = [latent["samples"].mean((1, 2, 3)) * 255 for latent in made.latents]
    for grey in greys_of:  # 20 frames at stride 2: two clips of 4 fit, the second begins at frame 8
        assert frame_numbers(grey.reshape(-1, 1)) == [8, 10, 12, 14]


def test_the_summary_says_what_becomes_of_each_file(make):
    lines = make().summary.splitlines()
    assert lines[0] == "3 clips, 5 with repeats, of 3 of 5 videos"
    assert "Sizes: 64 x 64 (3 clips)" in lines
    assert (
        "short.mp4: skipped, as it is too short: it has 2 of the 4 frames of a clip. Lower frames or stride, or raise frame_rate"
        in lines
    )
    assert any(line.startswith("broken.mp4: skipped, as it is broken, or no video that PyAV reads") for line in lines)
    assert "b.mkv, broken.mp4, short.mp4: no caption file beside it, so the default caption is used" in lines
    assert "0 of 3 clips were kept from earlier runs" in lines


def test_the_summary_is_told_before_anything_is_encoded(make, caplog):
    class Stops(Vae):
        def encode(self, pictures):
            raise RuntimeError("encoding")

    with caplog.at_level(logging.INFO), pytest.raises(RuntimeError, match="encoding"):
        make(vae=Stops())
    assert "short.mp4: skipped" in caplog.text


def test_what_was_made_is_not_made_again(make, pack, monkeypatch):
    first = make()
    vae, clip = Vae(), Clip()
    video = pack.submodule("training.dataset.video")
    monkeypatch.setattr(video, "opened", lambda path: pytest.fail(f"{path} was opened"))
    again = make(vae=vae, clip=clip)
    assert vae.encoded == 0
    assert clip.texts == []
    assert "3 of 3 clips were kept from earlier runs" in again.summary
    for old, new in zip(first.latents, again.latents, strict=True):
        assert torch.equal(old["samples"], new["samples"])
    for old, new in zip(first.positive, again.positive, strict=True):
        assert torch.equal(old[0][0], new[0][0])
        assert torch.equal(old[0][1]["pooled_output"], new[0][1]["pooled_output"])
    assert torch.equal(first.sheet, again.sheet)


REMADE = {
    "another VAE": ({"vae": lambda: Vae(1.0)}, 3, 0),
    "another CLIP": ({"clip": lambda: Clip(1.0)}, 0, 4),
    "another size": ({"height": lambda: 72}, 3, 0),
    "another stride": ({"stride": lambda: 1}, 3, 0),
    "another default caption": ({"default_caption": lambda: "else"}, 0, 1),
}


@pytest.mark.parametrize("change", REMADE)
def test_what_depends_on_a_change_is_made_again(make, change):
    make()
    changes, clips, texts = REMADE[change]
    given = {"vae": Vae(), "clip": Clip(), **{name: value() for name, value in changes.items()}}
    made = make(**given)
    assert given["vae"].encoded == clips * FRAMES
    assert len(given["clip"].texts) == texts
    assert f"{3 - clips} of 3 clips were kept" in made.summary


def test_a_changed_video_is_made_again(make, folder):
    make()
    write_video(folder / "a.mp4", greys(30))
    vae = Vae()
    make(vae=vae)
    assert vae.encoded == FRAMES


def test_models_without_weights_to_look_at_are_not_taken_for_others(make):
    class Strange(Vae):
        def __init__(self):
            super().__init__()
            self.patcher = None

    make(vae=Strange())
    again = Strange()
    make(vae=again)
    assert again.encoded == 3 * FRAMES


def test_a_damaged_file_of_the_cache_is_made_again(make, no_cache):
    make()
    files = list(no_cache.rglob("*.safetensors"))
    assert len(files) == 5 + 3 + 4  # videos, latents, texts
    for file in files:
        file.write_bytes(b"damaged")
    vae = Vae()
    make(vae=vae)
    assert vae.encoded == 3 * FRAMES
    assert not [path for path in no_cache.rglob("*") if path.is_file() and path.suffix != ".safetensors"]


def test_stopping_keeps_what_was_encoded(make, pack):
    import comfy.model_management

    class Stops(Vae):
        def encode(self, pictures):
            if self.encoded == FRAMES:
                comfy.model_management.interrupt_current_processing(True)
                comfy.model_management.throw_exception_if_processing_interrupted()
            return super().encode(pictures)

    with pytest.raises(comfy.model_management.InterruptProcessingException):
        make(vae=Stops())
    vae = Vae()
    assert "1 of 3 clips were kept" in make(vae=vae).summary
    assert vae.encoded == 2 * FRAMES


def test_the_cache_forgets_what_was_not_used_for_longest(make, pack, no_cache):
    cache = pack.submodule("training.dataset.cache").Cache
    make()
    for number, path in enumerate(sorted(no_cache.rglob("*.safetensors"))):
        os.utime(path, (number, number))
    sizes = {path: path.stat().st_size for path in no_cache.rglob("*.safetensors")}
    small = cache(most=sum(sizes.values()) // 2)
    newest = max(sizes, key=lambda path: path.stat().st_mtime)
    oldest = min(sizes, key=lambda path: path.stat().st_mtime)
    assert small.load(str(oldest)) is not None  # in use now
    left = small.shrink()
    assert left <= small.most
    assert newest.exists() and oldest.exists()
    assert left == sum(path.stat().st_size for path in no_cache.rglob("*.safetensors"))


def test_a_long_clip_is_never_in_memory_as_a_whole(make, folder):
    write_video(folder / "a.mp4", greys(70))
    for other in ("b.mkv", "3_often/c.webm"):
        (folder / other).unlink()
    vae = Vae()
    made = make(vae=vae, frames=64, stride=1)
    assert vae.most == 16
    assert made.latents[0]["samples"].shape[0] == 64
    assert frame_numbers((made.latents[0]["samples"].mean((1, 2, 3)) * 255).reshape(-1, 1)) == list(range(64))


def test_a_clip_that_cannot_be_decoded_is_left_out_and_told(make, pack, monkeypatch):
    prepare = pack.submodule("training.dataset.prepare")
    pictures = prepare.pictures

    def fails(path, *arguments):
        if path.endswith("a.mp4"):
            raise prepare.UnusableVideo("cannot be decoded at 0.3 s (invalid data)")
        return pictures(path, *arguments)

    monkeypatch.setattr(prepare, "pictures", fails)
    made = make()
    assert len(made.latents) == len(made.positive) == 4
    assert "a.mp4: a clip of it was left out, as it cannot be decoded at 0.3 s (invalid data)" in made.summary


def test_the_contact_sheet_shows_each_clip(make, folder):
    sheet = make().sheet
    assert sheet.ndim == 4 and sheet.shape[0] == 1 and sheet.shape[3] == 3
    assert sheet.min() >= 0 and sheet.max() <= 1
    for number in range(30):
        write_video(folder / "more" / f"{number}.mkv", greys(8))
        (folder / "more" / f"{number}.txt").write_text("word " * 200 if number % 2 else "w" * 500)
    assert make().sheet.shape[0] == 3  # 33 clips, 16 on a page


def test_pictures_on_the_sheet_are_those_of_the_clip(make):
    """The first clip is the webm, twice as wide as high; its second frame on the sheet is brighter than its first."""
    sheet = make(crop="buckets").sheet[0]
    first, second = (float(sheet[20, 8 + place * 98 + 40, 0]) for place in (0, 1))
    assert 20 / 255 < first < second < 0.6


def test_where_no_clip_can_be_decoded_it_is_refused(make, pack, monkeypatch):
    prepare = pack.submodule("training.dataset.prepare")

    def fails(*_):
        raise prepare.UnusableVideo("cannot be decoded at 0.3 s (invalid data)")

    monkeypatch.setattr(prepare, "pictures", fails)
    with pytest.raises(ValueError, match=r"None of the clips could be decoded.*a.mp4.*cannot be decoded at 0.3 s"):
        make()


def test_more_clips_than_can_be_meant_are_refused(make, pack, monkeypatch):
    monkeypatch.setattr(pack.submodule("training.dataset.prepare"), "MOST_CLIPS", 2)
    with pytest.raises(ValueError, match=r"gives more than 2 clips. Lower clips_per_video, or raise frames"):
        make()


TOLD = {
    "too slow": (
        {"frame_rate": 60.0, "stride": 1},
        "it has 25 frames a second, fewer than are taken, so some frames stand twice",
    ),
    "too small": ({"width": 128, "height": 128}, "it is 64 x 48 pixels, so it is enlarged"),
}


@pytest.mark.parametrize("kind", TOLD)
def test_the_summary_tells_what_makes_poor_clips(make, kind):
    changes, told = TOLD[kind]
    (line,) = [line for line in make(**changes).summary.splitlines() if line.endswith(told)]
    assert "a.mp4" in line


NOTHING = {
    "no videos": (
        lambda folder: [path.unlink() for path in folder.rglob("*.*")],
        "No clip can be made.*There is no file in it",
    ),
    "too short": (lambda folder: None, "No clip can be made.*is too short: it has 10 of the 64 frames"),
}


@pytest.mark.parametrize("kind", NOTHING)
def test_a_folder_that_gives_nothing_is_refused(make, folder, kind):
    spoil, told = NOTHING[kind]
    spoil(folder)
    with pytest.raises(ValueError, match=told):
        make(frames=64)


WRONG = {
    "a VAE of videos": (
        {"vae": SimpleNamespace(latent_dim=3, encode=0, decode=0)},
        "The VAE of Video Folder to Clips makes latents of videos",
    ),
    "no frames": ({"frames": 0}, "frames .* at least 1"),
    "many frames": ({"frames": 99_999}, "frames is 99999, but can be at most 1024: no motion model takes more"),
    "a rate below zero": ({"frame_rate": -1.0}, "frame_rate is -1, but has to be at least 0"),
    "no rate": ({"frame_rate": float("nan")}, "finite"),
    "a huge picture": ({"width": 100_000}, "width is 100000, but can be at most 4096: no video model is trained on"),
    "a tiny picture": ({"height": 8}, "height is 8, but has to be at least 64"),
    "no stride": ({"stride": 0}, "stride .* at least 1"),
    "less than no clips": ({"clips_per_video": -1}, "clips_per_video .* at least 0"),
    "a crop that is none": ({"crop": "left"}, "none of its choices: center, buckets"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_inputs_that_cannot_be_meant_are_refused(make, kind):
    changes, told = WRONG[kind]
    with pytest.raises(ValueError, match=told):
        make(**changes)


@pytest.mark.parametrize("crop", ["center", "buckets"])
def test_training_takes_what_comes_out(make, folder, pack, animate, new_model, new_motion, crop):
    """A few steps of a MotionLoRA, by the nodes; in buckets each batch is of one size."""
    write_video(folder / "upright.mkv", greys(20, 48, 96))
    made = make(crop=crop)
    sizes = {latent["samples"].shape[2:] for latent in made.latents}
    assert len(sizes) == (1 if crop == "center" else 2)
    with torch.inference_mode():
        model = animate(new_model(), new_motion())
        train = pack.submodule("nodes.training").TrainMotionLoRA.PREPARE_CLASS_CLONE(None)
        settings = {"frames": FRAMES, "rank": 4, "alpha": 4.0, "steps": 3, "batch": 2, "learning_rate": 1e-3}
        settings |= {
            "learning_rate_schedule": "constant",
            "optimizer": "AdamW",
            "weight_decay": 0.01,
            "caption_dropout": 0.1,
        }
        settings |= {
            "seed": 0,
            "precision": "fp32",
            "gradient_checkpointing": True,
            "preview_every": 2,
            "loss": "epsilon",
        }
        inputs = {name: [value] for name, value in settings.items()}
        result = train.execute(
            model=[model], latents=made.latents, positive=made.positive, negative=[made.negative], **inputs
        ).result
    assert result[2] == 3
    for _, up in result[0][0].lora.pairs.values():
        assert up.abs().max() > 0


def test_files_of_the_cache_are_not_served(no_cache, make):
    """The host hands out nothing over HTTP below a folder with two underscores."""
    make()
    (folder,) = no_cache.iterdir()
    assert folder.name.startswith("__")


def test_the_list_of_folders_is_that_of_the_input_folder(pack, folder, input_folder, tmp_path):
    names = pack.submodule("host.folders").input_folders()
    assert {"clips", "clips/3_often"} <= set(names)
    assert all((input_folder / name).is_dir() and not Path(name).is_absolute() for name in names)
    assert np.all([not name.startswith(".") for name in names])
