"""Training by command: the part of a graph that it takes, what it reads, and what is written for it."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path

import pytest
from animatediff_dev_hosts import ROOT
from animatediff_dev_pack import import_file


def node(**inputs) -> dict:
    return {"class_type": "Any", "inputs": inputs}


# Two trainings, the second behind the first; what lies behind each; and a branch that has nothing to do with them.
GRAPH = {
    "save": node(lora=["train", 0], name="my.lora"),
    "model": node(name="sd.safetensors", size=[512, 512]),
    "clips": node(vae=["model", 2]),
    "train": node(model=["model", 0], latents=["clips", 0]),
    "preview": node(images=["other", 0]),
    "other": node(model=["model", 0]),
    "apply": node(lora=["train", 0], model=["other_model", 0]),
    "other_model": node(),
    "again": node(model=["apply", 0], latents=["clips", 0]),
    "save_again": node(lora=["again", 0]),
}


@pytest.fixture
def graph(pack):
    return pack.submodule("training.graph")


@pytest.fixture
def cli(monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    return import_file("animatediff_tests_cli", ROOT / "training" / "cli.py")


def test_the_part_of_a_training_is_what_it_needs_and_what_is_behind_it(graph):
    assert list(graph.part_with(["train"], GRAPH)) == [name for name in GRAPH if name not in ("preview", "other")]
    of_the_second = graph.part_with(["again"], GRAPH)
    assert list(of_the_second) == ["model", "clips", "train", "apply", "other_model", "again", "save_again"]
    assert of_the_second["clips"] is GRAPH["clips"]


def test_what_is_ahead_and_behind(graph):
    assert graph.ahead_of(["train"], GRAPH) == {"model", "clips"}
    assert graph.ahead_of(["save_again"], GRAPH) == {"again", "apply", "other_model", "train", "model", "clips"}
    assert graph.behind("again", GRAPH) == {"save_again"}
    assert graph.behind("train", GRAPH) == {"save", "apply", "again", "save_again"}
    # two numbers are no link, and neither is one to a node that is not there
    assert graph.linked(GRAPH["model"], GRAPH) == []
    assert graph.linked(node(image=["gone", 0]), GRAPH) == []


def test_trainings_come_in_the_order_in_which_they_need_each_other(graph):
    assert graph.in_order({"again", "train"}, GRAPH) == ["train", "again"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no JSON file"),
        ("[]", "is no API prompt"),
        ("{}", "is no API prompt"),
        ('{"1": {"class_type": "KSampler"}}', "is no API prompt"),
        ('{"nodes": [], "links": []}', r"as the editor saves it. Open it in ComfyUI and choose File → Export \(API\)"),
    ],
)
def test_what_is_no_graph_is_refused(cli, tmp_path, text, message):
    path = tmp_path / "graph.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(cli.CommandError, match=message):
        cli.read(path)


def test_a_graph_that_is_not_there_is_refused(cli, tmp_path, capsys):
    assert cli.main([str(tmp_path / "none.json")]) == 2
    assert "none.json' cannot be read" in capsys.readouterr().err


def test_comfyui_is_found_where_it_is_said_to_be(cli, host_path, tmp_path, monkeypatch):
    assert cli.comfyui_folder(str(host_path)) == str(host_path)
    monkeypatch.setenv("COMFYUI_PATH", str(host_path))
    assert cli.comfyui_folder(None) == str(host_path)
    with pytest.raises(
        cli.CommandError, match=r"is not ComfyUI's folder: it has no main\.py\. Say where it is: --comfyui PATH"
    ):
        cli.comfyui_folder(str(tmp_path))
    monkeypatch.delenv("COMFYUI_PATH")
    monkeypatch.chdir(host_path)
    assert cli.comfyui_folder(None) == str(host_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(cli.CommandError, match="ComfyUI was not found"):
        cli.comfyui_folder(None)


@pytest.mark.parametrize(
    ("allowed", "rank", "processes", "options", "seen"),
    [
        (None, 0, 1, [], None),
        (None, 1, 2, [], "1"),
        ("4,6", 1, 2, [], "6"),
        ("GPU-a,GPU-b,GPU-c", 0, 2, [], "GPU-a"),
        ("4,6", 1, 2, ["--cpu"], "4,6"),
    ],
)
def test_each_process_sees_a_gpu_of_its_own(cli, monkeypatch, allowed, rank, processes, options, seen):
    for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"):
        monkeypatch.setenv(name, allowed or "")
        if allowed is None:
            monkeypatch.delenv(name)
    monkeypatch.setattr(cli, "LOCAL_RANK", rank)
    monkeypatch.setattr(cli, "LOCAL_PROCESSES", processes)
    cli.take_gpu(options)
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == seen
    for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"):
        os.environ.pop(name, None)


def test_more_processes_than_gpus_are_told(cli, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setattr(cli, "LOCAL_PROCESSES", 4)
    with pytest.raises(cli.CommandError, match="started 4 processes, but CUDA_VISIBLE_DEVICES allows 2 GPUs"):
        cli.take_gpu([])


def test_folders_of_ours_leave_the_path(cli, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "path", ["", str(ROOT), str(ROOT / "training"), "/elsewhere"])
    cli.leave_path()
    assert sys.path == ["/elsewhere"]


# -- what is written


@pytest.fixture
def command(pack):
    return pack.submodule("training.command")


@pytest.fixture
def settings(pack):
    return pack.submodule("training.settings")


def test_the_command_names_the_graph_this_comfyui_and_its_folders(command, settings, host_path, monkeypatch):
    from comfy.cli_args import args

    monkeypatch.setattr(args, "base_directory", "/my files")
    monkeypatch.setattr(args, "extra_model_paths_config", [["/a.yaml", "/b.yaml"]])
    words = shlex.split(command.command("/out/graph 1.json", settings.CommandSettings("x", gpus=3)))
    assert words[:6] == [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "3"]
    assert words[6:] == [
        *(str(ROOT / "training" / "cli.py"), "/out/graph 1.json", "--comfyui", str(host_path)),
        *(
            "--base-directory",
            "/my files",
            "--extra-model-paths-config",
            "/a.yaml",
            "--extra-model-paths-config",
            "/b.yaml",
        ),
        "--cpu",
    ]


def test_each_machine_has_a_command(command, settings):
    text = command.instructions("/out/graph.json", settings.CommandSettings("x", gpus=8, machines=3))
    lines = [line for line in text.splitlines() if "torch.distributed.run" in line]
    assert len(lines) == 3
    for machine, line in enumerate(lines):
        assert f"--nnodes 3 --node-rank {machine} --master-addr FIRST --master-port 29500 --nproc-per-node 8" in line


@pytest.mark.parametrize(("batch", "gpus", "machines"), [(3, 2, 1), (4, 2, 4), (1, 2, 1)])
def test_a_batch_that_cannot_be_shared_is_refused_before_it_is_written(settings, batch, gpus, machines):
    options = settings.TrainingOptions(command=settings.CommandSettings("x", gpus, machines))
    with pytest.raises(
        settings.TrainingFailed,
        match=f"batch is {batch}, but {gpus * machines} processes share it.* Set batch to a multiple of {gpus * machines}",
    ):
        settings.TrainingSettings(steps=1, batch=batch, options=options)
    settings.TrainingSettings(steps=1, batch=gpus * machines, options=options)


def test_where_it_runs_by_command_the_processes_there_count(pack, settings):
    place = pack.submodule("training.place")
    options = settings.TrainingOptions(command=settings.CommandSettings("x", gpus=2))
    with place.standing(place.Place(0, 3, commanded=True)):
        settings.TrainingSettings(steps=1, batch=3, options=options)
        with pytest.raises(settings.TrainingFailed, match="batch is 4, but 3 processes share it"):
            settings.TrainingSettings(steps=1, batch=4, options=options)


def test_the_graph_is_written_whole_and_beside_others(command, tmp_path, monkeypatch):
    import folder_paths

    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    first = command.write_graph(GRAPH, "train", "runs/foxes")
    second = command.write_graph(GRAPH, "train", "runs/foxes")
    assert [Path(path).relative_to(tmp_path).as_posix() for path in (first, second)] == [
        "runs/foxes_00001_.json",
        "runs/foxes_00002_.json",
    ]
    written = json.loads(Path(first).read_text(encoding="utf-8"))
    assert written == {name: GRAPH[name] for name in GRAPH if name not in ("preview", "other")}
