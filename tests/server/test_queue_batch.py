"""examples/queue_batch.py with a real ComfyUI on the toy world."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
from animatediff_dev_examples import in_toyworld
from animatediff_dev_pack import ROOT
from PIL import Image, ImageSequence


@pytest.fixture(scope="module")
def server(new_server, host, toyworld_models):
    with new_server(host, models=[toyworld_models]) as server:
        yield server


def frames(path) -> np.ndarray:
    return np.stack([np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(Image.open(path))])


def test_rows_become_clips_like_those_of_the_server_and_a_wrong_file_is_told(server, tmp_path):
    prompt = in_toyworld("txt2vid", steps=2, cfg=3.0, batch_size=4, lossless=True)
    prompt = {name: node for name, node in prompt.items() if name not in ("video", "mp4")}
    prompt["motion_model"]["_meta"] = {"title": "Motion"}
    (tmp_path / "workflow.json").write_text(json.dumps(prompt))
    with (tmp_path / "table.csv").open("w", newline="") as file:
        rows = [("red", "a red circle", 3, ""), ("blue", "a blue square", 4, ""), ("lost", "", 5, "lost.safetensors")]
        csv.writer(file).writerows([("job", "positive.text", "sampler.seed", "Motion.model_name"), *rows])
    command = [sys.executable, str(ROOT / "examples" / "queue_batch.py"), "workflow.json", "table.csv", "out"]
    done = subprocess.run([*command, "--server", server.url], cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "2 done, 1 failed" in done.stdout
    told = "Node motion_model \"Motion\" (ADE_LoadAnimateDiffModel): Value not in list: model_name: 'lost.safetensors'"
    assert told in done.stdout
    prompt["positive"]["inputs"]["text"], prompt["sampler"]["inputs"]["seed"] = "a blue square", 4
    (expected,) = server.outputs(server.queue(prompt))
    (clip,) = (tmp_path / "out" / "blue").glob("*.webp")
    assert np.array_equal(frames(clip), frames(expected))
    assert not np.array_equal(frames(clip), frames(next((tmp_path / "out" / "red").glob("*.webp"))))
