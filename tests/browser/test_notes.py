"""What a node says of itself in ComfyUI's own front end."""

from __future__ import annotations

PROMPT = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 4, "color": 255}},
    "2": {"class_type": "AnimateDiffMetrics", "inputs": {"images": ["1", 0]}},
    "3": {"class_type": "PreviewAny", "inputs": {"source": ["2", 0]}},
}
RUN = """async prompt => {
    await app.loadApiJson(prompt, "notes")
    await app.queuePrompt(0)
}"""
NOTE = """app.graph.nodes.find(node => node.type === "AnimateDiffMetrics")
    ?.widgets.find(widget => widget.name === "$$node-text-preview")?.value"""


def test_animation_metrics_says_on_its_node_what_it_could_not_measure(page):
    page.evaluate(RUN, PROMPT)
    note = page.wait_for_function(NOTE).json_value()
    assert note == "motion smoothness is not available: connect clip_vision. What is connected to it does not run."
