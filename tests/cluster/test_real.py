"""Two real ComfyUI servers with this pack render the toy world, and one of the workers is killed."""

import csv
import io
import json
import os
import signal
import subprocess
import time

import pytest
from batches import Batch
from hosts import host, toyworld_models
from PIL import Image, ImageSequence
from ray.cluster_utils import Cluster
from server import Server

from examples import in_toyworld

PROMPTS = ("a red circle", "a blue square", "a yellow triangle")
CLIPS = 6


def frames(content: bytes) -> list[bytes]:
    """The pixels of a clip; the file also holds the prompt, which knows the job."""
    return [frame.convert("RGB").tobytes() for frame in ImageSequence.Iterator(Image.open(io.BytesIO(content)))]


@pytest.fixture(scope="module")
def workflow() -> dict:
    prompt = in_toyworld("txt2vid", steps=3, cfg=3.0)
    return {name: node for name, node in prompt.items() if name not in ("video", "mp4")}


@pytest.fixture(scope="module")
def alone(workflow, tmp_path_factory) -> Server:
    """A server like those of the workers, with a folder of its own in which the workers find nodes and models."""
    with Server(host(), tmp_path_factory.mktemp("base"), models=[toyworld_models(host())]) as server:
        yield server


@pytest.fixture(scope="module")
def expected(alone, workflow) -> list[bytes]:
    """Clip 0, sampled without Ray."""
    prompt = json.loads(json.dumps(workflow))
    prompt["sampler"]["inputs"]["seed"] = 0
    prompt["positive"]["inputs"]["text"] = PROMPTS[0]
    prompt["webp"]["inputs"]["lossless"] = True
    (path,) = alone.outputs(alone.queue(prompt))
    return frames(path.read_bytes())


@pytest.fixture
def batch(tmp_path, workflow, alone):
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "object_store_memory": 200 << 20, "include_dashboard": False},
    )
    for _ in range(2):
        cluster.add_node(num_cpus=1, object_store_memory=200 << 20)
    (tmp_path / "workflow.json").write_text(json.dumps(workflow))
    with (tmp_path / "table.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sampler.seed", "positive.text", "webp.lossless"])
        writer.writerows([seed, PROMPTS[seed % len(PROMPTS)], "true"] for seed in range(CLIPS))
    yield Batch(tmp_path, cluster.address)
    cluster.shutdown()


@pytest.fixture
def options(alone) -> tuple[str, ...]:
    base = f'--base-directory "{alone.run}" --extra-model-paths-config "{alone.run / "models.yaml"}"'
    return ("--comfyui", str(alone.path), "--python", str(alone.python), "--comfyui-args", base)


def test_clips_of_a_cluster_are_those_of_a_server_alone(batch, options, expected):
    process = batch.start(*options)
    while not batch.manifest():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.1)
    os.kill(int(batch.manifest()[0]["worker"].rsplit(":", 1)[1]), signal.SIGKILL)
    printed, _ = process.communicate(timeout=280)
    assert process.returncode == 0, printed
    done = {line["job"]: line for line in batch.manifest() if line["status"] == "done"}
    assert len(batch.manifest()) == len(done) == CLIPS
    clips = [(batch.out / name / record["files"][0]).read_bytes() for name, record in sorted(done.items())]
    assert frames(clips[0]) == expected
    assert len({b"".join(frames(clip)) for clip in clips}) == CLIPS
    listed = subprocess.check_output(["ps", "-ww", "-eo", "args="], text=True)
    assert "comfyui-worker-" not in listed
    assert "0 to render" in batch.run(*options)


def test_a_model_that_is_not_there_fails_its_job_with_comfyui_s_message(batch, options):
    (batch.folder / "table.csv").write_text(
        "sampler.seed,sampler.steps,motion_model.model_name\n1,1,\n2,1,lost.safetensors\n", encoding="utf-8"
    )
    printed = batch.run(*options, code=1)
    assert "1 done, 1 failed" in printed
    (failed,) = [line for line in batch.manifest() if line["status"] == "failed"]
    assert (
        "motion_model (ADE_LoadAnimateDiffModel): Value not in list: model_name: 'lost.safetensors'" in failed["error"]
    )
