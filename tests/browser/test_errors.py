"""A mistake in ComfyUI's own front end: what it was and what to do about it is read without scrolling."""

from __future__ import annotations

import shutil

import pytest
from animatediff_dev_canvas import FIT, VUE_NODES
from animatediff_dev_examples import TOYWORLD, in_toyworld

OPEN_PROMPT = "prompt => app.loadApiJson(prompt, 'mistake')"
MOTION_LORA = TOYWORLD["name"]
MISTAKES = {
    "a wrong file": (
        {"model_name": MOTION_LORA},
        "'toyworld-right' is no motion model. It is a MotionLoRA, which changes a motion model: put it in "
        "models/animatediff_motion_lora and load it with Load AnimateDiff LoRA, beside a motion model.",
    ),
    "too long a clip": (
        {"batch_size": 64},
        "The clip has 64 frames, but the motion model 'toyworld' handles at most 32 at once. Connect Context Options: "
        "Shared Windows (or another Context Options node) with a context_length of 16 to context_options of Use Evolved "
        "Sampling; or lower batch_size.",
    ),
}
# How much of an element is seen: not cut off by the window, nor by what scrolls it.
SEEN = """element => new Promise(resolve => new IntersectionObserver(
    entries => resolve(entries[0].intersectionRatio)).observe(element))"""


@pytest.fixture(scope="module")
def example_server(browser, new_server, host, toyworld_models, front_end):
    """In place of the shared one: this one samples, and has a MotionLoRA among its motion models."""
    server = new_server(host, models=[toyworld_models], extra_args=front_end)
    motion_models = server.run / "models" / "animatediff_models"
    motion_models.mkdir(parents=True)
    shutil.copy(toyworld_models / "animatediff_motion_lora" / MOTION_LORA, motion_models)
    with server:
        server.post("/settings", {"Comfy.TutorialCompleted": True})
        yield server


@pytest.mark.parametrize("vue_nodes", [False, True], ids=["canvas", "Vue nodes"])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_message_is_read_without_scrolling(mistake, vue_nodes, page, keep):
    changes, message = MISTAKES[mistake]
    page.evaluate(VUE_NODES, vue_nodes)
    page.evaluate(OPEN_PROMPT, in_toyworld("txt2vid", **changes))
    page.evaluate(FIT)
    page.get_by_test_id("queue-button").click()
    page.get_by_test_id("error-overlay-see-errors").click(timeout=120_000)
    shown = page.get_by_text(message).last
    shown.wait_for()
    page.wait_for_timeout(1000)  # for the panel to come in
    keep(page, f"{mistake}, {'Vue nodes' if vue_nodes else 'canvas'}")
    assert shown.evaluate(SEEN) == 1
