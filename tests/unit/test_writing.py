"""New files: whole or not there at all; errors of the system in words."""

from __future__ import annotations

import errno
import os

import pytest
import safetensors
import safetensors.torch
import torch


@pytest.fixture(scope="session")
def writing(pack):
    return pack.submodule("host.writing")


@pytest.fixture
def write(writing, tmp_path):
    """Write a file and end with an error; returns the error."""

    def fail(error: BaseException) -> BaseException:
        with pytest.raises(BaseException) as told, writing.whole_file(str(tmp_path / "file")) as path:
            with open(path, "w") as file:
                file.write("half of it")
            raise error
        return told.value

    return fail


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full. Free some space"),
        (OSError(errno.EROFS, "Read-only file system"), "the disk can only be read. Choose a folder on another disk"),
        (
            safetensors.SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
            "the disk is full. Free some space",
        ),
    ],
)
def test_errors_of_the_system_are_told_in_words(writing, write, tmp_path, error, message):
    told = write(error)
    assert isinstance(told, writing.NotSaved)
    assert str(told).startswith(f"'{tmp_path / 'file'}' was not saved: {message}")
    assert told.__cause__ is error
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("error", [ValueError("any"), OSError(errno.EIO, "Input/output error"), KeyboardInterrupt()])
def test_other_errors_stay_as_they_are_and_leave_nothing(write, tmp_path, error):
    assert write(error) is error
    assert os.listdir(tmp_path) == []


def test_models_that_do_not_fit_on_the_disk_leave_nothing(pack, writing, tmp_path, monkeypatch):
    full = safetensors.SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    def save_file(tensors, path, metadata):
        with open(path, "w") as file:
            file.write("half of it")
        raise full

    monkeypatch.setattr(safetensors.torch, "save_file", save_file)
    save = pack.submodule("motion_models.files.saving").save_tensors
    with pytest.raises(writing.NotSaved, match="the disk is full"):
        save({"a": torch.ones(2)}, str(tmp_path / "lora.safetensors"), {})
    assert os.listdir(tmp_path) == []


@pytest.fixture
def models_dir(tmp_path, monkeypatch):
    import folder_paths

    monkeypatch.setattr(folder_paths, "models_dir", str(tmp_path))
    return tmp_path


def test_names_of_new_models_are_numbered_below_their_folder(pack, models_dir):
    new_file = pack.submodule("host.folders").new_file
    first = new_file("loras", "mine/zoom")
    assert first == str(models_dir / "loras" / "mine" / "zoom_00001_.safetensors")
    (models_dir / "loras" / "mine" / "zoom_00001_.safetensors").touch()
    assert new_file("loras", "mine/zoom").endswith("zoom_00002_.safetensors")
    assert new_file("loras", "%width%").endswith("0_00001_.safetensors")


@pytest.mark.parametrize("prefix", ["../zoom", "/zoom", "a/../../zoom", ".."])
def test_a_prefix_that_leads_out_of_the_models_folder_is_told(pack, models_dir, prefix):
    with pytest.raises(ValueError, match="leads out of the folder") as error:
        pack.submodule("host.folders").new_file("animatediff_motion_lora", prefix)
    assert f"'{models_dir / 'animatediff_motion_lora'}'" in str(error.value)
    assert "image" not in str(error.value)
