"""Seeds of training in ComfyUI's own front end: placed by hand they stay as they are, and stored values are kept."""

from __future__ import annotations

import json

import pytest
from animatediff_dev_examples import workflow_file

TYPES = ["AnimateDiffTrainMotionLoRA", "AnimateDiffTrainDomainAdapter", "AnimateDiffTrainMotionModule"]
EXAMPLE = workflow_file("train_motion_lora")

VALUES = "node => node.widgets.map(widget => [widget.name, widget.value])"
PLACE = f"""type => {{
    const node = LiteGraph.createNode(type)
    app.graph.add(node)
    return ({VALUES})(node)
}}"""
OPEN = f"""async workflow => {{
    await app.loadGraphData(workflow)
    return Object.fromEntries(app.graph.nodes.filter(node => node.widgets).map(node => [node.id, ({VALUES})(node)]))
}}"""


@pytest.mark.parametrize("node_type", TYPES)
def test_a_training_placed_by_hand_keeps_its_seed(page, node_type):
    widgets = page.evaluate(PLACE, node_type)
    seed = [name for name, _ in widgets].index("seed")
    assert widgets[seed][1] == 0
    assert widgets[seed + 1][1] == "fixed"


@pytest.mark.parametrize("control", ["randomize", "fixed"])
def test_a_stored_training_keeps_what_follows_the_seed(page, control):
    workflow = json.loads(EXAMPLE.read_text(encoding="utf-8"))
    (node,) = (node for node in workflow["nodes"] if node["type"] == TYPES[0])
    stored = node["widgets_values"]
    (place,) = (place for place, value in enumerate(stored) if value in ("fixed", "randomize"))
    stored[place - 1 : place + 1] = [1234, control]
    widgets = page.evaluate(OPEN, workflow)[str(node["id"])]
    assert [value for _, value in widgets] == stored
    assert widgets[place - 1] == ["seed", 1234]
