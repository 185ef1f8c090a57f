"""Animation Metrics in a real server."""

import pytest
from animatediff_dev_examples import in_toyworld
from PIL import Image


@pytest.fixture(scope="module")
def server(new_server, host, toyworld_models):
    with new_server(host, models=[toyworld_models]) as server:
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


def test_numbers_report_and_plot(server, prompt):
    entry = server.queue(prompt)
    assert "metrics" not in entry["outputs"]  # nothing hangs on the numbers that are not available
    assert float(text(entry, "flicker")) == pytest.approx(100 - 100 * 51 / 31 / 255)
    assert "frame difference 0.00 to 51.00 levels of 255" in text(entry, "report")
    [path] = server.outputs(entry)
    with Image.open(path) as plot:
        assert plot.width == 960


def test_optional_inputs_reach_the_measures(server, prompt):
    prompt["metrics"]["inputs"] |= {"context_length": 16, "context_overlap": 0}
    report = text(server.queue(prompt), "report")
    assert "seams after frames 15 " in report
    assert "nothing moves between seams (frames differ by 51.00 levels at them)" in report


def test_what_hangs_on_a_missing_number_does_not_run(server, prompt):
    prompt["smoothness"] = {"class_type": "PreviewAny", "inputs": {"source": ["metrics", 0]}}
    entry = server.queue(prompt)
    assert "smoothness" not in entry["outputs"]
    told = "motion smoothness is not available: connect clip_vision. What is connected to it does not run."
    assert entry["outputs"]["metrics"]["text"] == [told]
    assert told in server.log()
    assert text(entry, "report").startswith("32 frames of 64 x 64 pixels")


def test_one_frame_is_refused_in_words(server, prompt):
    prompt["metrics"]["inputs"]["images"] = ["one", 0]
    prompt["one"] = picture(0)
    with pytest.raises(RuntimeError, match="images holds only one"):
        server.queue(prompt)


def test_the_example_measures_an_animation(server):
    entry = server.queue(in_toyworld("metrics", batch_size=4, steps=2))
    assert text(entry, "report").startswith("4 frames of 64 x 64 pixels")
    assert entry["outputs"]["plot"]["images"]
