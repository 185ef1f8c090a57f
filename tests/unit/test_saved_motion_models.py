"""Motion models written to files: what is read again, here and by readers that know the published layouts only."""

from __future__ import annotations

import pytest
import safetensors
import safetensors.torch
import torch


@pytest.fixture(scope="session")
def files(pack):
    return pack.submodule("motion_models.files.motion_model")


@pytest.fixture(scope="session")
def saving(pack):
    return pack.submodule("motion_models.files.saving")


@pytest.fixture
def load(files, tmp_path):
    """Load a motion model from tensors."""

    def new(tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None = None, name: str = "original"):
        path = tmp_path / f"{name}.safetensors"
        safetensors.torch.save_file({key: value.contiguous() for key, value in tensors.items()}, path, metadata)
        return files.load_motion_model(str(path))

    return new


LAYOUTS = {
    "v2": {},
    "v3": {"levels": (32, 64, 96, 96), "mid": False},
    "AnimateLCM": {"table": None},
    "HotshotXL": {"layout": "HotshotXL", "table": 24, "mid": False},
    "diffusers": {"layout": "diffusers", "table": 16},
    "one level, no mid block": {"levels": (64,), "down": 1, "up": 2, "mid": False},
}


@pytest.mark.parametrize("kind", LAYOUTS)
def test_what_is_saved_is_loaded_again(files, saving, motion_tensors, load, tmp_path, kind):
    before = load(motion_tensors(**LAYOUTS[kind]))
    path = str(tmp_path / "saved.safetensors")
    saving.save_motion_model(before, path, {"animatediff.caption": "all"})
    after = files.load_motion_model(path)
    spec, again = before.model.spec, after.model.spec
    for field in ("layout", "version", "down", "mid", "up", "attention_blocks", "heads", "max_frames", "parameters"):
        assert getattr(again, field) == getattr(spec, field), field
    state = after.model.state_dict()
    assert all(torch.equal(state[key], value) for key, value in before.model.state_dict().items())
    with safetensors.safe_open(path, "pt") as file:
        assert file.metadata()["animatediff.caption"] == "all"
        assert file.metadata()["animatediff.pack_version"]


@pytest.mark.parametrize("kind", ["v2", "v3", "AnimateLCM"])
def test_a_saved_file_has_the_published_tensors_and_no_others(files, saving, motion_tensors, load, tmp_path, kind):
    tensors = motion_tensors(**LAYOUTS[kind])
    path = str(tmp_path / "saved.safetensors")
    saving.save_motion_model(load(tensors), path, dtype=torch.float16)
    saved = safetensors.torch.load_file(path)
    assert saved.keys() == tensors.keys()
    for key, value in tensors.items():
        assert saved[key].dtype == (torch.float32 if key.endswith(".pe") else torch.float16)
        torch.testing.assert_close(
            saved[key].float(), value.half().float() if saved[key].dtype == torch.float16 else value
        )


def test_a_published_reader_takes_a_hotshot_file_for_what_it_is(files, saving, motion_tensors, load, tmp_path):
    path = str(tmp_path / "saved.safetensors")
    saving.save_motion_model(load(motion_tensors(**LAYOUTS["HotshotXL"])), path)
    assert any(key.endswith("pos_encoder.positional_encoding") for key in safetensors.torch.load_file(path))


@pytest.mark.parametrize("version", ["v1", "v2", "v3"])
def test_the_version_that_a_file_notes_wins(motion_tensors, load, version):
    """A module of one level without a mid block could be of any version, and group norm depends on it."""
    tensors = motion_tensors(**LAYOUTS["one level, no mid block"])
    spec = load(tensors, {"animatediff.version": version}).model.spec
    assert spec.version == version
    assert spec.joint_group_norm == (version == "v1")
    assert load(tensors, name="silent").model.spec.version == "v1"


def test_an_unknown_version_is_refused(files, motion_tensors, load):
    with pytest.raises(files.MotionModelFileError, match=r"animatediff\.version is 'v9'; it must be one of v1, v2, v3"):
        load(motion_tensors(), {"animatediff.version": "v9"})


def test_weight_patches_are_not_saved(files, saving, motion_tensors, load, tmp_path):
    """Neither those asked for nor those that a run has left in the weights."""
    import comfy.model_management

    plain = load(motion_tensors())
    expected = {key: value.clone() for key, value in plain.model.state_dict().items()}
    patched = plain.clone()
    key = "down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.0.to_q.weight"
    patched.add_patches({key: (torch.ones(32, 32),)}, 1.0)
    comfy.model_management.load_models_gpu([patched])
    try:
        assert not torch.equal(plain.model.state_dict()[key], expected[key])
        for i, patcher in enumerate((plain, patched)):
            path = str(tmp_path / f"saved{i}.safetensors")
            saving.save_motion_model(patcher, path)
            assert torch.equal(safetensors.torch.load_file(path)[key], expected[key])
    finally:
        patched.detach()
    assert torch.equal(plain.model.state_dict()[key], expected[key])


def test_a_model_whose_image_input_would_be_lost_is_not_saved(files, saving, motion_tensors, load, tmp_path):
    image_input = {"conv_in.weight": torch.zeros(32, 9, 3, 3), "conv_in.bias": torch.zeros(32)}
    with pytest.raises(
        files.MotionModelFileError, match=r"'original' is a PIA model; .* would be missing from the file"
    ):
        saving.save_motion_model(load(motion_tensors() | image_input), str(tmp_path / "saved.safetensors"))
    assert not (tmp_path / "saved.safetensors").exists()
