"""Our subgraph blueprints in ComfyUI's own front end: found, placed, run."""

from __future__ import annotations

import pytest
from animatediff_dev_pack import ROOT
from animatediff_dev_server import PACK
from PIL import Image

TITLES = sorted(path.stem for path in (ROOT / "subgraphs").glob("*.json"))
BOX = "app.graph.nodes.find(node => node.subgraph)"
IN_TOYWORLD = {
    "prompt": "a red circle",
    "negative_prompt": "",
    "checkpoint": "toyworld.safetensors",
    "motion_model": "toyworld.safetensors",
    "width": 64,
    "height": 64,
    "frames": 8,
    "steps": 2,
    "cfg": 2.0,
}
SET = f"""values => {{
    const box = {BOX}, widgets = Object.fromEntries(box.widgets.map(widget => [widget.name, widget]));
    for (const [name, value] of Object.entries(values)) widgets[name].value = value;
    const save = LiteGraph.createNode("SaveImage");
    app.graph.add(save);
    box.connect(0, save, 0);
    return box.title;
}}"""


@pytest.fixture
def example_server(browser, new_server, host, toyworld_models, front_end):
    """In place of the one with empty files: `page` opens this."""
    with new_server(host, models=[toyworld_models], extra_args=front_end) as server:
        server.post("/settings", {"Comfy.TutorialCompleted": True})
        yield server


def test_the_server_lists_the_blueprints_and_one_is_found_placed_and_run(page, example_server, open_search):
    served = example_server.get("/global_subgraphs").values()
    ours = [each["name"] for each in served if each["info"]["node_pack"] == f"custom_nodes.{PACK}"]
    assert sorted(ours) == TITLES

    open_search(page)
    page.get_by_role("combobox").fill("AnimateDiff Text to Video")
    page.get_by_test_id("result-item").first.click()
    page.wait_for_function(BOX)
    page.mouse.click(700, 500)  # where the search left it to be put
    assert page.evaluate(SET, IN_TOYWORLD) == "AnimateDiff Text to Video"

    with page.expect_response("**/api/prompt") as sent:
        page.get_by_test_id("queue-button").click()
    assert sent.value.ok, sent.value.text()
    files = example_server.outputs(example_server.wait(sent.value.json()["prompt_id"]))
    frames = [Image.open(file) for file in files if file.suffix == ".png"]
    assert [frame.size for frame in frames] == [(64, 64)] * 8
    assert all(low < high for frame in frames for low, high in frame.convert("RGB").getextrema())
