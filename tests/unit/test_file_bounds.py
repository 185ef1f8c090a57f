"""Files that hold too much are refused before they take the machine's time or memory."""

from __future__ import annotations

import pickle
import zipfile

import pytest
import torch


@pytest.fixture
def write_pickle(tmp_path):
    """Write a pickle as PyTorch writes them, with as many further records as wanted."""

    def write(content: bytes, records: int = 0) -> str:
        path = str(tmp_path / "motion.ckpt")
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", content)
            archive.writestr("archive/version", "3\n")
            archive.writestr("archive/byteorder", "little")
            for i in range(records):
                archive.writestr(f"archive/data/{i}", b"")
        return path

    return write


def test_dictionaries_that_hold_each_other_again_and_again_are_refused(write, refusal):
    content = {"weight": torch.zeros(1)}
    for _ in range(15):
        content = dict.fromkeys(("a", "b", "c"), content)
    message = refusal(write({**content, "lr": 1e-4}, suffix=".ckpt"))
    assert "more than 50,000 tensors or other entries" in message


def test_a_dictionary_in_itself_is_refused(write, refusal):
    content = {"weight": torch.zeros(1), "lr": 1e-4}
    content["again"] = content
    assert "more than 20 deep" in refusal(write(content, suffix=".ckpt"))


@pytest.mark.parametrize("depth", [50, 100_000])
def test_dictionaries_in_dictionaries_in_dictionaries_are_refused(write_pickle, refusal, depth):
    # by hand: pickle itself could not
    content = b"\x80\x02}" + b"X\x01\x00\x00\x00a}" * depth + b"s" * depth + b"."
    assert "more than 20 deep" in refusal(write_pickle(content))


def test_too_many_tensors_are_refused(write, refusal, reading):
    one = torch.zeros(60_000)
    tensors = {f"down_blocks.0.motion_modules.0.{i}": one[i : i + 1] for i in range(60_000)}
    message = refusal(write(tensors))
    assert "more than 50,000 tensors" in message
    assert "fewer than 1,000" in message


def test_too_many_tensors_of_a_pickle_are_refused(write_pickle, refusal):
    for records in (50_001, 70_000):  # zip archives count above 65,535 in another place
        assert "more than 50,000 tensors" in refusal(write_pickle(pickle.dumps({}, 2), records))
    long_list = pickle.dumps({"state_dict": list(range(8 << 20))}, 2)
    assert "list of contents alone takes more than 16 MB" in refusal(write_pickle(long_list))


def test_a_checkpoint_with_much_beside_its_weights_is_read(files, motion_tensors, write):
    content = {"state_dict": motion_tensors(), "vocabulary": {f"word {i}": i for i in range(100_000)}}
    assert files.load_motion_model(write(content, suffix=".ckpt")).model.spec.version == "v2"


@pytest.mark.parametrize("name", ["x" * 1_000_000, "down_blocks.\n.weight"], ids=["long", "no text"])
def test_names_that_no_message_could_show_are_refused(motion_tensors, write, refusal, name):
    assert "a tensor's name is longer than 500 characters or no text" in refusal(
        write(motion_tensors() | {name: torch.zeros(1)})
    )


def test_tensors_that_claim_more_than_their_file_has_are_refused(write, refusal):
    """One number can pose as a matrix of any size."""
    name = "down_blocks.0.motion_modules.0.temporal_transformer.norm.weight"
    message = refusal(write({name: torch.zeros(1).expand(1 << 40), "lr": 1e-4}, suffix=".ckpt"))
    assert "would take 4,398.0 GB" in message


def test_a_pickle_that_unpacks_to_more_than_its_file_has_is_refused(tmp_path, refusal):
    path = str(tmp_path / "motion.ckpt")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}, 2))
        archive.writestr("archive/data/0", bytes(100 << 20))
    assert "would take 0.1 GB, but the file has only 0.1 MB" in refusal(path)
