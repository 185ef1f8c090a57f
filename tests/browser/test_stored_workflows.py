"""Nodes as they are stored in public workflow files of the last years, opened in ComfyUI's own front end.

Each must end up with the widget values that it gets with the incumbent's nodes.
"""

from __future__ import annotations

import json

import pytest
from animatediff_dev_reference import stored_nodes

ROWS = stored_nodes()
IDS = [f"{number}-{row['type']}" for number, row in enumerate(ROWS)]
# `loaded` was recorded where these were the first files on the lists: what a widget falls back to without a value.
FIRST_FILES = {"random_motion_lora.safetensors", "random_v1.safetensors"}

OPEN_ALL = """async workflow => {
    await app.loadGraphData(workflow)
    return Object.fromEntries(app.graph.nodes.map(node => [node.id, {
        type: node.type,
        widgets: Object.fromEntries((node.widgets ?? []).map(widget => [widget.name, widget.value ?? null])),
        outputs: node.outputs.map(output => output.type),
        linked: node.inputs.filter(input => input.link != null).map(input => input.name),
        open: node.inputs.filter(input => input.link == null).map(input => input.name),
    }]))
}"""
SOURCE = 1000  # ids of nodes that linked inputs are linked to begin here


def in_a_workflow(rows: list[dict]) -> dict:
    """One workflow with the node of each row, its number for id. What was linked is linked to a node of its own."""
    nodes, links = [], []
    for id, row in enumerate(rows):
        stored, inputs = row["stored"], []
        for slot, socket in enumerate(stored["inputs"]):
            link = None
            if socket["linked"]:
                link = len(links)
                source = {
                    "id": SOURCE + link,
                    "type": "Reroute",
                    "pos": [0, 0],
                    "size": [75, 26],
                    "flags": {},
                    "mode": 0,
                }
                source |= {"inputs": [{"name": "", "type": "*", "link": None}], "order": 0, "properties": {}}
                nodes.append({**source, "outputs": [{"name": "", "type": socket["type"], "links": [link]}]})
                links.append([link, SOURCE + link, 0, id, slot, socket["type"]])
            inputs.append({**{key: value for key, value in socket.items() if key != "linked"}, "link": link})
        node = {"id": id, "type": row["type"], "pos": [0, 0], "size": [300, 200], "flags": {}, "mode": 0, "order": 1}
        node |= {"properties": {}, "inputs": inputs, "outputs": [{**o, "links": None} for o in stored["outputs"]]}
        if stored["widgets_values"] is not None:
            node["widgets_values"] = stored["widgets_values"]
        nodes.append(node)
    return {
        "last_node_id": SOURCE + len(links),
        "last_link_id": len(links),
        "nodes": nodes,
        "links": links,
        "groups": [],
        "config": {},
        "extra": {},
        "version": 0.4,
    }


@pytest.fixture(scope="module")
def served(example_server) -> dict:
    return example_server.object_info()


@pytest.fixture(scope="module")
def opened_nodes(module_page, served) -> dict:
    """What the front end made of all rows, by the number of the row."""
    assert {row["type"] for row in ROWS} <= served.keys()
    return module_page.evaluate(OPEN_ALL, in_a_workflow(ROWS))


@pytest.mark.compares("stored nodes", IDS)
@pytest.mark.parametrize("number", range(len(ROWS)), ids=IDS)
def test_stored_node_keeps_its_values(number, served, opened_nodes, compared):
    row = ROWS[number]
    node = opened_nodes[str(number)]
    compared(IDS[number])
    assert node["type"] == row["type"]
    expected = dict(row["loaded"]["widgets"])
    for name, value in expected.items():
        if value in FIRST_FILES and value not in json.dumps(row["stored"]):
            expected[name] = first_option(served[row["type"]], name)
    # values stored by name were lost on the way, until front end 1.58 took them
    by_name = row["stored"]["widgets_values"]
    by_name = by_name if isinstance(by_name, dict) else {}
    assert node["widgets"] in (expected, {**expected, **by_name})
    assert node["outputs"] == row["loaded"]["outputs"]
    # what was linked still is, also where an input is new or has another name now
    linked = {socket["name"] for socket in row["stored"]["inputs"] if socket["linked"]}
    assert linked <= set(node["linked"])
    offered = {name for inputs in served[row["type"]]["input_order"].values() for name in inputs}
    # neither widgets of the incumbent's that show a text only, nor doubles, are left as sockets
    left_over = set(node["open"]) - offered
    assert left_over <= {"motion_model_settings"}  # a socket of before, which our loader still takes
    assert len(node["open"]) == len(set(node["open"]))


def first_option(info: dict, name: str) -> str:
    kind, *settings = info["input"]["required"][name]
    return (kind if isinstance(kind, list) else settings[0]["options"])[0]
