"""The clip moves on the sampler's node while it is sampled, in ComfyUI's own front end: on a canvas, and in Vue nodes."""

from __future__ import annotations

import pytest
from animatediff_dev_examples import in_toyworld

FRAMES, PICTURES = 16, 24
RUN = """async prompt => {
    window.steps = 0
    app.api.addEventListener("progress", () => { window.steps += 1 })
    await app.loadApiJson(prompt, "preview")
    // a canvas draws only what is in view
    app.canvas.centerOnNode(app.graph.nodes.find(node => node.type === "KSampler"))
    await app.queuePrompt(0)
}"""
SAMPLER = "app.graph.nodes.find(node => node.type === 'KSampler')"
ON_CANVAS = f"() => {SAMPLER}?.imgs?.[0]"
IN_VUE_NODES = f"() => document.querySelector(`[data-node-id='${{{SAMPLER}?.id}}'] img`)"
# What the node showed until it showed so many pictures, one behind the other, and the number of steps meanwhile.
WATCH = """([find, most]) => new Promise(resolve => {
    const shown = [], small = new OffscreenCanvas(16, 16).getContext("2d", { willReadFrequently: true })
    const end = performance.now() + 150000
    let first = null
    const look = () => {
        const picture = eval(find)()
        if (picture?.complete && picture.naturalWidth) {
            first ??= window.steps
            small.drawImage(picture, 0, 0, 16, 16)
            const pixels = small.getImageData(0, 0, 16, 16).data.join()
            if (pixels !== shown.at(-1)) shown.push(pixels)
        }
        if (shown.length < most && performance.now() < end) requestAnimationFrame(look)
        else resolve({ shown: shown.length, different: new Set(shown).size, steps: window.steps - first })
    }
    look()
})"""


@pytest.fixture(scope="module")
def example_server(new_server, host, toyworld_models, front_end):
    """In place of the shared one: this one samples."""
    with new_server(host, models=[toyworld_models], extra_args=front_end) as server:
        server.post("/settings", {"Comfy.TutorialCompleted": True, "Comfy.Execution.PreviewMethod": "latent2rgb"})
        yield server


@pytest.fixture(params=[False, True], ids=["canvas", "Vue nodes"])
def vue_nodes(request, example_server):
    example_server.post("/settings", {"Comfy.VueNodes.Enabled": request.param})
    yield request.param
    example_server.interrupt()


def test_the_clip_moves_between_steps(vue_nodes, page, tmp_path):
    page.evaluate(RUN, in_toyworld("txt2vid", batch_size=FRAMES, steps=100, width=96, height=96))
    seen = page.evaluate(WATCH, [IN_VUE_NODES if vue_nodes else ON_CANVAS, PICTURES])
    page.screenshot(path=tmp_path / "preview.png")
    assert seen["shown"] == PICTURES, seen
    assert seen["different"] >= FRAMES, seen
    assert seen["steps"] < 0.75 * PICTURES, seen  # the node changed more often than the clip
