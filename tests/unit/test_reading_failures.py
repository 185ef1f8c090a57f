"""When the machine and not the file is to blame, no one is told to download the file again."""

from __future__ import annotations

import builtins
import errno
import itertools
import json
import os

import pytest
import torch

# What readers raise -> the class that arrives, words about it and about what to do. Messages are those of PyTorch 2.11,
# safetensors 0.8, Linux and Windows.
FAILURES = {
    "no memory": (MemoryError(), MemoryError, ("not enough memory", "close other programs")),
    "no memory, safetensors": (
        MemoryError("Cannot allocate memory (os error 12)"),
        MemoryError,
        ("not enough memory",),
    ),
    "no memory, PyTorch": (
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
            "3276800 bytes. Error code 12 (Cannot allocate memory)"
        ),
        MemoryError,
        ("not enough memory",),
    ),
    "no memory, PyTorch on Windows": (
        RuntimeError("[enforce fail at alloc_cpu.cpp:114] data. DefaultCPUAllocator: not enough memory: you tried …"),
        MemoryError,
        ("not enough memory",),
    ),
    "no paging file": (
        OSError("The paging file is too small for this operation to complete. (os error 1455)"),
        MemoryError,
        ("paging file",),
    ),
    "no memory, errno": (OSError(errno.ENOMEM, "Cannot allocate memory"), MemoryError, ("not enough memory",)),
    "no GPU memory": (
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
        torch.cuda.OutOfMemoryError,
        ("not enough memory",),
    ),
    "not allowed": (PermissionError(errno.EACCES, "Permission denied"), PermissionError, ("no permission", "Allow")),
    "not allowed, safetensors": (RuntimeError("Permission denied (os error 13)"), PermissionError, ("no permission",)),
    "not there": (FileNotFoundError(errno.ENOENT, "No such file"), FileNotFoundError, ("not there", "press R")),
    "broken drive": (OSError(errno.EIO, "Input/output error"), OSError, ("Input/output error", "check the drive")),
    "network gone": (OSError(errno.ENETDOWN, "Network is down"), OSError, ("Network is down", "network connection")),
    "network drive": (OSError(errno.ESTALE, "Stale file handle"), OSError, ("Stale file handle", "run again")),
    "network slow": (TimeoutError(errno.ETIMEDOUT, "Timed out"), TimeoutError, ("Timed out", "network connection")),
    "too many open": (OSError(errno.EMFILE, "Too many open files"), OSError, ("too many files", "Restart ComfyUI")),
}


@pytest.fixture
def lora_tensors(motion_tensors) -> dict[str, torch.Tensor]:
    block = "down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.0.processor"
    return {f"{block}.to_q_lora.{half}.weight": torch.zeros(4, 4) for half in ("down", "up")}


@pytest.fixture
def readers(pack, motion_tensors, lora_tensors, write, tmp_path):
    """What reads files: name -> (function that reads, the file it reads)."""
    motion_model = pack.submodule("motion_models.files.motion_model").load_motion_model
    i2v = pack.submodule("motion_models.adapters.image_encoder").load_animatelcm_i2v
    lora = pack.submodule("lora.motion_lora").read_motion_lora
    domain_adapter = pack.submodule("lora.domain_adapter").load_domain_adapter
    poses = pack.submodule("motion_models.adapters.camera").read_poses
    adapter = write(motion_tensors(layout="diffusers"), "adapter")
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"_class_name": "MotionAdapter", "block_out_channels": [32, 64]}))
    camera = tmp_path / "poses.txt"
    camera.write_text("title\n" + "0 " * 19)
    encoder = {"img_encoder.weight": torch.zeros(1)}
    return {
        "motion model": (motion_model, write(motion_tensors())),
        "motion model, pickle": (motion_model, write(motion_tensors(), suffix=".ckpt")),
        "config.json": (lambda path: motion_model(adapter), str(config)),
        "AnimateLCM-I2V": (i2v, write(motion_tensors(table=None, mid=False) | encoder, "i2v")),
        "MotionLoRA": (lora, write(lora_tensors, "lora")),
        "domain adapter": (lambda path: domain_adapter(None, path, 1.0), write(lora_tensors, "domain")),
        "camera poses": (poses, str(camera)),
    }


READERS = ["motion model", "motion model, pickle", "AnimateLCM-I2V", "MotionLoRA", "domain adapter"]
# PyTorch and safetensors take no part in reading these; and a config.json need not be there.
OF_TEXTS = [
    (reader, failure)
    for reader in ("config.json", "camera poses")
    for failure, (error, *_) in FAILURES.items()
    if isinstance(error, (OSError, MemoryError)) and (reader, failure) != ("config.json", "not there")
]


@pytest.mark.parametrize(("reader", "failure"), [*itertools.product(READERS, FAILURES), *OF_TEXTS])
def test_a_failure_of_the_machine_has_its_own_name(readers, monkeypatch, reader, failure):
    error, kind, words = FAILURES[failure]
    read, path = readers[reader]

    def fail(file, *args, **kwargs):
        if isinstance(file, (str, os.PathLike)) and os.fspath(file) == path:
            raise error
        return real(file, *args, **kwargs)

    real = open
    monkeypatch.setattr(builtins, "open", fail)
    with pytest.raises(kind) as caught:
        read(path)
    message = str(caught.value)
    assert f"{os.path.basename(path)}'" in message
    assert [word for word in words if word not in message] == []
    assert "ownload" not in message
    assert "damaged" not in message


@pytest.mark.parametrize("reader", ["motion model", "motion model, pickle", "MotionLoRA"])
@pytest.mark.parametrize("failure", FAILURES)
def test_also_in_the_middle_of_the_file(readers, monkeypatch, reader, failure):
    import comfy.utils

    error, kind, words = FAILURES[failure]
    read, path = readers[reader]

    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(*((torch, "load") if path.endswith(".ckpt") else (comfy.utils, "load_torch_file")), fail)
    with pytest.raises(kind) as caught:
        read(path)
    message = str(caught.value)
    assert [word for word in words if word not in message] == []
    assert "ownload" not in message


# Without any stand-in.


def test_a_file_that_is_gone(readers):
    read, path = readers["motion model"]
    os.remove(path)
    with pytest.raises(
        FileNotFoundError, match=r"'motion\.safetensors' could not be read: it is not there\. Check its name"
    ):
        read(path)


@pytest.mark.skipif(os.name == "nt", reason="Windows tells folders as files that may not be opened")
def test_a_folder(readers):
    read, path = readers["motion model"]
    os.remove(path)
    os.mkdir(path)
    with pytest.raises(IsADirectoryError, match=r"it is a folder\. Choose a file"):
        read(path)


@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="needs a file that cannot be read, as Linux has one")
@pytest.mark.parametrize("reader", ["motion model", "motion model, pickle", "MotionLoRA", "camera poses"])
def test_a_drive_that_fails(readers, reader):
    read, path = readers[reader]
    os.remove(path)
    os.symlink("/proc/self/mem", path)
    with pytest.raises(OSError, match=r"from its drive \(Input/output error\).*check the drive"):
        read(path)
