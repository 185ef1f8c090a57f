"""Training on Several GPUs: the training node writes the graph in place of training, and the nodes behind it are not run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

PROMPT = {
    "model": {"class_type": "Model", "inputs": {}},
    "several": {"class_type": "AnimateDiffTrainingOnSeveralGPUs", "inputs": {"gpus": 2}},
    "train": {"class_type": "AnimateDiffTrainMotionLoRA", "inputs": {"model": ["model", 0], "options": ["several", 0]}},
    "save": {"class_type": "AnimateDiffSaveMotionLoRA", "inputs": {"motion_lora": ["train", 0]}},
}


@pytest.fixture
def nodes(pack):
    return {node.GET_SCHEMA().node_id: node for node in pack.submodule("nodes").served()}


@pytest.fixture
def output(tmp_path, monkeypatch):
    import folder_paths

    folder = tmp_path / "output"
    folder.mkdir()
    monkeypatch.setattr(folder_paths, "output_directory", str(folder))
    return folder


@pytest.fixture
def several(nodes):
    """`several(gpus=2)`: what the node hands on."""

    def make(**changes):
        node = nodes["AnimateDiffTrainingOnSeveralGPUs"]
        (options,) = node.execute(**{"filename_prefix": "training", "gpus": 2, "machines": 1, **changes}).result
        return options

    return make


@pytest.fixture
def run(nodes, animated, new_latents, positive, negative):
    """Run a training node as the host does: every input a list, and what the schema does not hide."""

    def execute(node_id: str, options, **changes):
        node = nodes[node_id]
        wanted = {entry.id: entry for entry in node.define_schema().inputs}
        values = {
            name: entry.default for name, entry in wanted.items() if not entry.optional and hasattr(entry, "default")
        }
        values |= {"model": animated(), "negative": negative, "options": options, "steps": 1, "frames": 4, **changes}
        inputs = {name: [value] for name, value in values.items() if name in wanted}
        inputs |= {"latents": new_latents(), "positive": [positive]}
        hidden = {"UNIQUE_ID": "train", "PROMPT": {**PROMPT, "train": {**PROMPT["train"], "class_type": node_id}}}
        return node.PREPARE_CLASS_CLONE({"hidden_inputs": hidden}).execute(**inputs)

    return execute


@pytest.mark.parametrize(
    "node_id", ["AnimateDiffTrainMotionLoRA", "AnimateDiffTrainDomainAdapter", "AnimateDiffTrainMotionModule"]
)
def test_it_writes_and_blocks_what_is_behind(run, several, nodes, output, nothing_unloaded, node_id):
    result = run(node_id, several(), batch=4).result
    assert [type(one).__name__ for one in result] == ["ExecutionBlocker"] * len(nodes[node_id].define_schema().outputs)
    assert {one.message for one in result} == {None}  # no error is shown
    (path,) = output.glob("*.json")
    assert path.name == "training_00001_.json"
    assert json.loads(path.read_text(encoding="utf-8"))["train"]["class_type"] == node_id


def test_the_command_is_shown_and_logged(run, several, output, on_the_node, caplog):
    caplog.set_level("INFO")
    with on_the_node("train") as shown:
        run("AnimateDiffTrainMotionLoRA", several(gpus=4), batch=8)
    ((node_id, text),) = shown
    assert node_id == "train"
    assert "--nproc-per-node 4" in text
    assert str(output / "training_00001_.json") in text
    assert text in caplog.text


def test_queued_once_more_it_is_written_anew(run, several, nodes, output):
    """What lies behind the node may have changed, of which its own inputs do not tell."""
    node = nodes["AnimateDiffTrainMotionLoRA"]
    before = node.fingerprint_inputs()
    run("AnimateDiffTrainMotionLoRA", several(), batch=2)
    assert node.fingerprint_inputs() != before


def test_by_command_it_trains(run, several, output, pack):
    place = pack.submodule("training.place")
    with place.standing(place.Place(commanded=True)):
        _, loss_map, steps = run("AnimateDiffTrainMotionLoRA", several()).result
    assert steps == 1
    assert loss_map["loss"]
    assert not list(output.iterdir())


def test_a_batch_that_cannot_be_shared_is_refused(run, several, output, pack):
    with pytest.raises(
        pack.submodule("training.settings").TrainingFailed, match="batch is 1, but 2 processes share it"
    ):
        run("AnimateDiffTrainMotionLoRA", several(), batch=1)
    assert not list(output.iterdir())


@pytest.mark.parametrize("name", ["gpus", "machines"])
def test_there_is_at_least_one_of_each(several, name):
    with pytest.raises(ValueError, match=f"{name} of Training on Several GPUs is 0, but has to be at least 1"):
        several(**{name: 0})


def test_options_before_it_stay(several, pack):
    before = pack.submodule("training.settings").TrainingOptions(ema=0.9)
    options = several(prev_options=before)
    assert (options.ema, options.command.processes) == (0.9, 2)
    assert before.command is None


def test_a_prefix_that_leads_out_of_the_folder_is_refused(run, several, output):
    with pytest.raises(ValueError, match="leads out of the folder"):
        run("AnimateDiffTrainMotionLoRA", several(filename_prefix="../elsewhere"), batch=2)
    assert not list(Path(output).parent.glob("elsewhere*"))
