"""`python -m training.cli` from a graph to a LoRA, in real ComfyUIs on the toy world, alone and through torchrun."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch
from animatediff_dev_examples import in_toyworld
from animatediff_dev_hosts import ROOT
from animatediff_dev_server import Server
from animatediff_tests_distributed import environment, torchrun

SMALL = {
    **{"folder": "clips", "frames": 4, "stride": 1, "steps": 3, "batch": 2, "rank": 4, "alpha": 4.0},
    **{"preview_every": 0, "learning_rate": 0.01, "dtype": "float32"},
}
SETTINGS = {"filename_prefix": "graphs/small", "gpus": 2, "machines": 1}
CLI = ROOT / "training" / "cli.py"


def graph(**changes) -> dict:
    prompt = in_toyworld("train_from_video_folder", **{**SMALL, **changes})
    return {name: node for name, node in prompt.items() if name not in ("sheet", "loss")}


def by_command(prompt: dict, **changes) -> dict:
    """The graph with Training on Several GPUs in front of its training node."""
    node = {"class_type": "AnimateDiffTrainingOnSeveralGPUs", "inputs": {**SETTINGS, **changes}}
    prompt = {**prompt, "several": node}
    prompt["train"]["inputs"]["options"] = ["several", 0]
    return prompt


@pytest.fixture
def install(toyworld, toyworld_models, tmp_path):
    """`install(host)`: a folder for its files with models, videos and the pack in it, as a server of the tests has it."""

    def make(host, name: str = "run") -> Server:
        server = Server(host, tmp_path / name, models=[toyworld_models])
        (tmp_path / name).mkdir(exist_ok=True)
        server.prepare()
        toyworld("videos").write_clips(server.run / "input" / "clips", 3, seed=0)
        return server

    return make


def write(prompt: dict, server: Server) -> Path:
    path = server.run / "graph.json"
    path.write_text(json.dumps(prompt), encoding="utf-8")
    return path


def options(server: Server) -> list[str]:
    return ["--comfyui", str(server.path), *server.arguments]


def lora(server: Server) -> dict[str, torch.Tensor]:
    (path,) = (server.run / "models" / "animatediff_motion_lora").glob("*.safetensors")
    return safetensors.torch.load_file(path)


def test_two_processes_save_the_lora_of_one(install, launch, host):
    found = {}
    for several in (False, True):
        server = install(host, f"several-{several}")
        done = launch("-m", "training.cli", write(graph(), server), *options(server), several=several, cwd=ROOT)
        assert done.returncode == 0, done.stdout[-5000:]
        found[several] = lora(server)
    assert found[True].keys() == found[False].keys()
    assert max(tensor.abs().max() for tensor in found[False].values()) > 1e-3
    for name, tensor in found[False].items():
        # Of float32: a batch in parts is rounded differently, and AdamW makes whole steps of small gradients.
        assert (found[True][name] - tensor).norm() < 1e-4 * tensor.norm(), name


def test_it_runs_in_every_release(install, launch, any_host):
    server = install(any_host)
    done = launch(CLI, write(graph(steps=1), server), *options(server), several=True, python=any_host.python)
    assert done.returncode == 0, done.stdout[-5000:]
    assert lora(server)


def test_what_the_node_writes_and_shows_is_what_trains(install, host):
    """The command as it is shown, with nothing added."""
    server = install(host)
    with server:
        entry = server.queue(by_command(graph()))
        assert server.outputs(entry) == []  # nothing behind the training was run
        log = server.log()
    (path,) = (server.run / "output" / "graphs").glob("*.json")
    assert path.name == "small_00001_.json"
    assert not list((server.run / "models").glob("animatediff_motion_lora/*.safetensors"))
    (command,) = [line for line in log.splitlines() if "torch.distributed.run" in line]
    done = subprocess.run(shlex.split(command), env=environment(), capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]
    assert lora(server)


def test_a_server_with_the_same_files_goes_on(install, launch, host):
    """What is in its temp folder, and its database, are left alone."""
    server = install(host)
    with server:
        kept = server.run / "temp" / "preview.png"
        kept.parent.mkdir(exist_ok=True)
        kept.touch()
        done = launch(CLI, write(graph(steps=1), server), *options(server), several=False)
        assert done.returncode == 0, done.stdout[-5000:]
        assert kept.exists()
        server.queue(graph(steps=1))


def test_stop_saves_what_was_trained(install, host):
    server = install(host)
    prompt = write(graph(steps=100_000), server)
    command = [host.python, *torchrun(2), str(CLI), str(prompt), *options(server)]
    with (server.run / "log").open("w+b") as log:
        run = subprocess.Popen(command, env=environment(), stdout=log, stderr=subprocess.STDOUT)
        try:
            deadline = time.monotonic() + 300
            while b"AnimateDiff training: step" not in (server.run / "log").read_bytes():
                assert run.poll() is None and time.monotonic() < deadline, (server.run / "log").read_text()[-5000:]
                time.sleep(0.2)
            run.send_signal(signal.SIGINT)
            run.wait(100)
        finally:
            run.kill()
    text = (server.run / "log").read_text()
    assert "it was stopped" in text, text[-5000:]
    assert lora(server)


def refused() -> dict[str, tuple[dict, str]]:
    missing = graph()
    missing["checkpoint"]["inputs"]["ckpt_name"] = "none.safetensors"
    unknown = graph()
    unknown["save"]["class_type"] = "NoSuchNode"
    return {
        "no training": ({"1": {"class_type": "EmptyLatentImage", "inputs": {}}}, "The graph has no training node"),
        "nothing saved": (
            {name: node for name, node in graph().items() if name != "save"},
            "put a Save node there",
        ),
        "a model that is not there": (missing, "none.safetensors"),
        "a node that is not there": (unknown, "NoSuchNode"),
        "a batch that cannot be shared": (graph(batch=3), "batch is 3, but 2 processes share it"),
    }


@pytest.mark.parametrize("name", refused())
def test_what_cannot_be_trained_is_refused_in_words(install, launch, host, name):
    prompt, message = refused()[name]
    server = install(host)
    done = launch(CLI, write(prompt, server), *options(server), several=name.startswith("a batch"))
    assert done.returncode != 0
    assert message in done.stdout, done.stdout[-5000:]
