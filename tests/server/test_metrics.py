"""Animation Metrics in a real server."""

import json
from pathlib import Path

import pytest
from PIL import Image

EXAMPLE = Path(__file__).parents[2] / "example_workflows" / "api" / "metrics.json"


@pytest.fixture(scope="module")
def core(new_server, host):
    """A server without models: core's nodes make the pictures."""
    with new_server(host) as server:
        yield server


def picture(colour: int, batch_size: int = 1) -> dict:
    inputs = {"width": 64, "height": 64, "batch_size": batch_size, "color": colour}
    return {"class_type": "EmptyImage", "inputs": inputs}


@pytest.fixture
def prompt() -> dict:
    """A clip that is black in its first window of 16 frames and grey (51 of 255) in its second."""
    return {
        "first": picture(0, 16),
        "second": picture(0x333333, 16),
        "clip": {"class_type": "ImageBatch", "inputs": {"image1": ["first", 0], "image2": ["second", 0]}},
        "metrics": {"class_type": "AnimateDiffMetrics", "inputs": {"images": ["clip", 0]}},
        "flicker": {"class_type": "PreviewAny", "inputs": {"source": ["metrics", 3]}},
        "report": {"class_type": "PreviewAny", "inputs": {"source": ["metrics", 7]}},
        "plot": {"class_type": "PreviewImage", "inputs": {"images": ["metrics", 8]}},
    }


def text(entry: dict, node: str) -> str:
    return entry["outputs"][node]["text"][0]


def test_numbers_report_and_plot(core, prompt):
    entry = core.queue(prompt)
    assert float(text(entry, "flicker")) == pytest.approx(100 - 100 * 51 / 31 / 255)
    assert "frame difference 0.00 to 51.00 levels of 255" in text(entry, "report")
    [path] = core.outputs(entry)
    with Image.open(path) as plot:
        assert plot.width == 960


def test_optional_inputs_reach_the_measures(core, prompt):
    prompt["metrics"]["inputs"] |= {"context_length": 16, "context_overlap": 0}
    report = text(core.queue(prompt), "report")
    assert "seams after frames 15 " in report
    assert "nothing moves between seams (frames differ by 51.00 levels at them)" in report


def test_what_hangs_on_a_missing_number_does_not_run(core, prompt):
    prompt["smoothness"] = {"class_type": "PreviewAny", "inputs": {"source": ["metrics", 0]}}
    entry = core.queue(prompt)
    assert "smoothness" not in entry["outputs"]
    assert text(entry, "report").startswith("32 frames of 64 x 64 pixels")


def test_one_frame_is_refused_in_words(core, prompt):
    prompt["metrics"]["inputs"]["images"] = ["one", 0]
    prompt["one"] = picture(0)
    with pytest.raises(RuntimeError, match="images holds only one"):
        core.queue(prompt)


def test_the_example_measures_an_animation(server, weights):
    """Small and short, on random weights under the names that the example gives."""
    prompt = json.loads(EXAMPLE.read_text(encoding="utf-8"))
    prompt["frames"]["inputs"] |= {"width": 64, "height": 64, "batch_size": 4}
    prompt["sampler"]["inputs"]["steps"] = 2
    for node, input, folder in (
        ("checkpoint", "ckpt_name", "checkpoints"),
        ("motion_model", "model_name", "animatediff_models"),
    ):
        prompt[node]["inputs"][input] = next(path.name for path in sorted((weights / folder).iterdir()))
    entry = server.queue(prompt)
    assert text(entry, "report").startswith("4 frames of 64 x 64 pixels")
    assert entry["outputs"]["plot"]["images"]
