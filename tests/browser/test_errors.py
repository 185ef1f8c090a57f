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
        "'toyworld-right' is no motion model. It is a MotionLoRA: use Load AnimateDiff LoRA "
        "(models/animatediff_motion_lora).",
    ),
    "too long a clip": (
        {"batch_size": 64},
        "The clip has 64 frames, but the motion model 'toyworld' handles at most 32 at once. Connect Context Options: "
        "Shared Windows with context_length 16 to Use Evolved Sampling, or lower batch_size.",
    ),
}
SCREEN = {"width": 1600, "height": 900}
# Whether a text is seen from its beginning to its end: neither the window nor what scrolls it cuts it off. None: it is not there.
SEEN = """message => {
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    let found = null;
    while (texts.nextNode()) {
        const start = texts.currentNode.data.indexOf(message);
        if (start < 0) continue;
        const range = document.createRange();
        range.setStart(texts.currentNode, start);
        range.setEnd(texts.currentNode, start + message.length);
        const { top, bottom } = range.getBoundingClientRect();
        let seen = bottom > top && top >= 0 && bottom <= innerHeight;
        for (let box = texts.currentNode.parentElement; box; box = box.parentElement)
            if (getComputedStyle(box).overflowY !== "visible")
                seen &&= top >= box.getBoundingClientRect().top && bottom <= box.getBoundingClientRect().bottom;
        found ||= seen;
    }
    return found;
}"""


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
    page.set_viewport_size(SCREEN)
    page.evaluate(VUE_NODES, vue_nodes)
    page.evaluate(OPEN_PROMPT, in_toyworld("txt2vid", **changes))
    page.evaluate(FIT)
    page.get_by_test_id("queue-button").click()
    page.get_by_test_id("error-overlay-see-errors").click()
    page.wait_for_function(f"message => ({SEEN})(message) !== null", arg=message)
    page.wait_for_timeout(1000)  # for the panel to come in
    keep(page, f"{mistake}, {'Vue nodes' if vue_nodes else 'canvas'}")
    assert page.evaluate(SEEN, message)
