"""What a file costs: each number of it is copied at most once on its way into a network, and nothing of the file is kept."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from animatediff_tests_copied import copied_by, size
from animatediff_tests_tiny import (
    camera_control_tensors,
    fps_and_motion_tensors,
    image_encoder_tensors,
    image_input_tensors,
    motion_ctrl_tensors,
    motion_model_tensors,
)


def tables(tensors: dict) -> int:
    return sum(value.numel() for name, value in tensors.items() if name.endswith((".pe", ".positional_encoding")))


# Motion models of every layout.

LAYOUTS = {
    "AnimateDiff": {},
    "AnimateDiff, v1": {"mid": False, "table": 24},
    "HotshotXL": {"layout": "HotshotXL", "mid": False},
    "AnimateLCM, whose tables are generated": {"table": None},
    "diffusers": {"layout": "diffusers"},
    "a prefix": {"prefix": "module."},
}


@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_nothing_is_copied_where_file_and_model_agree(files, motion_tensors, write, reading, layout, suffix):
    tensors = motion_tensors(**LAYOUTS[layout])
    copied, patcher = copied_by(lambda: files.load_motion_model(write(tensors, suffix=suffix)))
    # what a file has once and the network twice (diffusers' table of both attentions), and what is made, not read
    shared = tables(tensors) if layout == "diffusers" and suffix == ".ckpt" else 0
    made = 0 if tables(tensors) else tables(patcher.model.state_dict())
    assert copied == shared + made


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn])
@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_number_is_cast_once(files, motion_tensors, write, reading, layout, suffix, dtype):
    tensors = {name: value.to(dtype) for name, value in motion_tensors(**LAYOUTS[layout]).items()}
    copied, patcher = copied_by(lambda: files.load_motion_model(write(tensors, suffix=suffix)))
    assert copied == size(patcher.model)


def test_pieces_come_in_their_order(pack, files, motion_tensors, write, monkeypatch):
    """Tensors that are cast are read bit by bit, and checked so."""
    stored = pack.submodule("motion_models.files.stored")
    monkeypatch.setattr(stored, "PIECE", 2 * 100)  # which divides hardly any of them
    tensors = {
        name: torch.arange(value.numel()).remainder(2048).reshape(value.shape).half()
        for name, value in motion_tensors().items()
    }
    network = files.load_motion_model(write(tensors)).model
    name = next(name for name in tensors if name.endswith("ff.net.2.weight"))
    assert tensors[name].nbytes > stored.PIECE
    assert torch.equal(network.state_dict()[name], tensors[name].float())
    tensors[name].view(-1)[-1] = float("nan")
    with pytest.raises(files.MotionModelFileError, match=r"ff\.net\.2\.weight holds NaN"):
        files.load_motion_model(write(tensors))


def test_adjusted_motion_models_too(pack, files, motion_tensors, write):
    adjust = pack.submodule("motion_models.files.adjust")
    adjustments = adjust.Adjustments(
        positions=(adjust.PositionAdjustment(cap=16),), weights=(adjust.WeightAdjustment("multiply", {"attn": 0.5}),)
    )
    tensors = motion_tensors()
    copied, patcher = copied_by(lambda: files.load_motion_model(write(tensors), adjustments))
    cut = sum(value.numel() for name, value in patcher.model.state_dict().items() if name.endswith(".pe"))
    assert copied == cut  # which would keep the memory of the whole table
    half = {name: value.half() for name, value in tensors.items()}
    copied, patcher = copied_by(lambda: files.load_motion_model(write(half, "half"), adjustments))
    assert copied == size(patcher.model)


def test_a_pickle_that_holds_more_than_it_names_leaves_the_rest_behind(files, motion_tensors, write):
    """A tensor may be a part of one that is far larger, or lie crosswise in memory."""
    tensors = motion_tensors()
    name = next(name for name in tensors if name.endswith("to_q.weight"))
    weight = tensors[name]
    tensors[name] = torch.cat([weight, weight.new_zeros(10_000, weight.shape[1])])[: len(weight)]
    other = name.replace("to_q", "to_k")
    tensors[other] = tensors[other].t().contiguous().t()
    copied, patcher = copied_by(lambda: files.load_motion_model(write(tensors, suffix=".ckpt")))
    assert copied == weight.numel() + tensors[other].numel()
    for value in patcher.model.state_dict().values():
        assert value.is_contiguous()
        assert value.untyped_storage().nbytes() == value.nbytes
    assert torch.equal(patcher.model.state_dict()[name], weight)


def test_layers_do_not_share_memory(files, motion_tensors, write):
    """A file may have one tensor under several names."""
    tensors = motion_tensors()
    first = next(name for name in tensors if name.endswith("to_q.weight"))
    tensors[first.replace("to_q", "to_k")] = tensors[first]
    state = files.load_motion_model(write(tensors, suffix=".ckpt")).model.state_dict()
    assert len({value.data_ptr() for value in state.values()}) == len(state)


# Whatever else reads weights.


@pytest.fixture
def written(pack, tmp_path):
    """Tiny files of all kinds: dtype -> name -> path. Asked for before ``reading``, under which networks begin without weights."""
    motion = motion_model_tensors(pack)
    lora = {}
    for layer in (name.removesuffix(".weight") for name in motion if name.endswith("to_q.weight")):
        width = motion[f"{layer}.weight"].shape[0]
        processor = layer.replace(".to_q", ".processor.to_q_lora")
        lora |= {f"{processor}.down.weight": torch.ones(4, width), f"{processor}.up.weight": torch.ones(width, 4)}
    contents = {
        "motion": motion,
        "encoder": image_encoder_tensors(pack, motion),
        "camera": camera_control_tensors(pack, motion),
        "motion_ctrl": motion_ctrl_tensors(motion) | {f"module.{name}": value for name, value in motion.items()},
        "pia": motion | image_input_tensors(),
        "lora": lora,
        "fancy": motion | image_input_tensors() | fps_and_motion_tensors() | {"FancyVideo": torch.zeros(1)},
    }
    paths = {torch.float32: {}, torch.float16: {}}
    for dtype, of_dtype in paths.items():
        for name, tensors in contents.items():
            of_dtype[name] = str(tmp_path / f"{name}_{dtype}.safetensors".replace("torch.", ""))
            tensors = {key: value.to(dtype).contiguous().clone() for key, value in tensors.items()}
            safetensors.torch.save_file(tensors, of_dtype[name])
    return paths


def readers(pack) -> dict:
    """Name -> a function from the paths to what was read."""
    adapters = "motion_models.adapters"
    motion_model = pack.submodule("motion_models.files.motion_model").load_motion_model
    return {
        "motion model": lambda at: [motion_model(at["motion"])],
        "image encoder": lambda at: [pack.submodule(f"{adapters}.image_encoder").load_image_encoder(at["encoder"])],
        "AnimateLCM-I2V": lambda at: pack.submodule(f"{adapters}.image_encoder").load_animatelcm_i2v(at["encoder"])[:1],
        "CameraCtrl": lambda at: [pack.submodule(f"{adapters}.camera_control").load_camera_control(at["camera"])],
        "MotionCtrl": lambda at: [
            pack.submodule(f"{adapters}.motion_ctrl").load_with_motion_ctrl(at["motion"], at["motion_ctrl"])
        ],
        "PIA": lambda at: [motion_model(at["pia"])],
        "FancyVideo": lambda at: [motion_model(at["fancy"])],
    }


NAMES = ["motion model", "image encoder", "AnimateLCM-I2V", "CameraCtrl", "MotionCtrl", "PIA", "FancyVideo"]


@pytest.mark.parametrize("name", NAMES)
def test_everything_that_reads_weights_touches_each_once(pack, written, reading, name):
    parts = pack.submodule("host.patcher").parts
    read = readers(pack)[name]

    def all_of(patchers) -> int:
        return sum(size(one.model) for patcher in patchers for one in (patcher, *parts(patcher).values()))

    copied, patchers = copied_by(lambda: read(written[torch.float32]))
    # of a convolution only the half beside the checkpoint's own is taken over; AnimateLCM's tables are made, not read
    halves = 5 * 9 * 32 if name in ("PIA", "FancyVideo") else 0
    made = tables(patchers[0].model.state_dict()) if name == "AnimateLCM-I2V" else 0
    assert copied == halves + made
    copied, patchers = copied_by(lambda: read(written[torch.float16]))
    assert copied == all_of(patchers)
    for patcher in patchers:
        for one in (patcher, *parts(patcher).values()):
            assert not any(value.is_meta for value in (*one.model.parameters(), *one.model.buffers()))


def test_motion_loras_are_kept_as_they_are_in_the_file(pack, written):
    lora = pack.submodule("lora.motion_lora")
    for dtype in (torch.float32, torch.float16):
        path = written[dtype]["lora"]
        copied, read = copied_by(lambda path=path: lora.read_motion_lora(path))
        assert copied == 0
        assert {half.dtype for pair in read.pairs.values() for half in pair} == {dtype}


def test_a_second_network_of_a_motion_model_is_copied_once_and_reads_no_file(pack, files, written):
    path = written[torch.float16]["motion"]
    patcher = files.load_motion_model(path)
    os.remove(path)
    copied, copy = copied_by(lambda: files.fresh_copy(patcher))
    assert copied == size(patcher.model) == size(copy.model)


def test_a_merged_motion_model_takes_its_weights_over(pack, files, written):
    patcher = files.load_motion_model(written[torch.float32]["motion"])
    tensors = {name: value.clone() for name, value in patcher.model.state_dict().items()}
    copied, made = copied_by(lambda: files.new_motion_model(patcher.model.spec, tensors))
    assert copied == 0
    function, arguments = made.cached_patcher_init[:2]
    again = function(*arguments, disable_dynamic=True)  # as the host does for another device: weights of its own
    ours = {value.data_ptr() for value in made.model.state_dict().values()}
    assert not ours & {value.data_ptr() for value in again.model.state_dict().values()}


def test_a_motion_model_is_saved_without_copies(pack, files, written, tmp_path):
    patcher = files.load_motion_model(written[torch.float32]["motion"])
    saving = pack.submodule("motion_models.files.saving")
    copied, _ = copied_by(lambda: saving.save_motion_model(patcher, str(tmp_path / "saved.safetensors")))
    assert copied == 0


def test_a_training_begins_with_one_copy_of_its_motion_model(pack, files, written):
    patcher = files.load_motion_model(written[torch.float32]["motion"])
    begin = pack.submodule("host.training").trainable_copy
    copied, network = copied_by(lambda: begin(patcher, torch.float32, torch.device("cpu")))
    assert copied == size(patcher.model) == size(network)


# The file itself.


@pytest.mark.parametrize("name", NAMES)
def test_the_file_may_be_overwritten_afterwards(pack, written, reading, name):
    """In its place, and shorter than before: what is mapped would change, or end the process."""
    at = written[torch.float32]
    patchers = readers(pack)[name](at)
    parts = pack.submodule("host.patcher").parts
    networks = [one.model for patcher in patchers for one in (patcher, *parts(patcher).values())]
    before = [{key: value.clone() for key, value in network.state_dict().items()} for network in networks]
    for path in at.values():
        Path(path).write_bytes(b"\xff" * 64)
    if sys.platform == "linux":
        mapped = Path("/proc/self/maps").read_text(encoding="utf-8")
        assert not [path for path in at.values() if path in mapped]
    for network, expected in zip(networks, before, strict=True):
        for key, value in network.state_dict().items():
            assert torch.equal(value, expected[key]), key


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])  # read at once, and in pieces
def test_a_file_that_is_cut_off_while_it_is_read_is_told(pack, files, written, monkeypatch, dtype):
    path = written[dtype]["motion"]
    weights = pack.submodule("motion_models.files.motion_model")
    real = weights.check_tensors

    def cut_off(spec, tensors):
        real(spec, tensors)
        os.truncate(path, os.path.getsize(path) // 2)

    monkeypatch.setattr(weights, "check_tensors", cut_off)
    with pytest.raises(files.MotionModelFileError, match="became shorter while it was read"):
        files.load_motion_model(path)


def test_under_dynamic_vram_weights_stay_in_their_file_as_the_hosts_own_do(
    pack, files, motion_tensors, write, monkeypatch
):
    """The host reads them from there when it needs them."""
    monkeypatch.setattr(files, "weights_stay_mapped", lambda disable_dynamic: not disable_dynamic)
    tensors = motion_tensors()
    path = write(tensors)
    copied, patcher = copied_by(lambda: files.load_motion_model(path))
    assert copied == 0
    if sys.platform == "linux":
        assert path in Path("/proc/self/maps").read_text(encoding="utf-8")
    for key, value in patcher.model.state_dict().items():
        assert torch.equal(value, tensors[key])
    files.load_motion_model(path, disable_dynamic=True)
