"""An example workflow in a ComfyUI that does not have this pack."""

from __future__ import annotations

import pytest
from animatediff_dev_examples import pack_of_nodes, workflow_file


@pytest.fixture
def example_server(browser, new_server, host):
    """In place of the one with the pack: `page` opens this."""
    with new_server(host, packs=[]) as server:
        server.post("/settings", {"Comfy.TutorialCompleted": True})
        yield server


def test_the_front_end_says_which_pack_is_missing(page):
    workflow = workflow_file("txt2vid").read_text(encoding="utf-8")
    page.evaluate("workflow => app.loadGraphData(JSON.parse(workflow), true, true, 'txt2vid')", workflow)
    page.get_by_role("button", name="View details").click()
    page.get_by_text(pack_of_nodes()["cnr_id"]).first.wait_for()
