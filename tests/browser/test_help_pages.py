"""The help page of a node in ComfyUI's own front end."""

from __future__ import annotations

import pytest
from animatediff_dev_canvas import READY

NODE, TITLE = "ADE_StandardStaticContextOptions", "Context Options: Standard Static"
PLACE_AND_SELECT = """type => {
    const node = LiteGraph.createNode(type)
    app.graph.add(node)
    node.pos = [300, 300]
    app.canvas.selectNode(node)
}"""
PICTURES = """() => [...document.querySelectorAll(".node-help-content img")]
    .map(picture => picture.complete && picture.naturalWidth)"""


@pytest.fixture(params=["en", "ja"])
def help_page(request, page, example_server):
    """The help page of a node, in a language that has it and in one that has no pages of its own."""
    example_server.post("/settings", {"Comfy.Locale": request.param})
    page.reload()
    page.wait_for_function(READY)
    page.evaluate(PLACE_AND_SELECT, NODE)
    page.get_by_test_id("info-button").click()
    content = page.locator(".node-help-content")
    content.get_by_role("heading", name=TITLE).wait_for()
    yield content
    example_server.post("/settings", {"Comfy.Locale": "en"})


def test_the_help_page_of_a_node_opens_with_its_pictures(page, help_page):
    assert "context_length (default 16; 1 to 128)" in help_page.inner_text()
    page.wait_for_function(f"() => ({PICTURES})().every(width => width === 400)")
    assert len(page.evaluate(PICTURES)) == 2
    assert "Use Evolved Sampling" in help_page.inner_text()
