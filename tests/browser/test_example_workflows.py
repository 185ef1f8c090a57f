"""The example workflows and all our nodes in ComfyUI's own front end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from animatediff_dev_reference import interface
from animatediff_dev_server import PACK

FOLDER = Path(__file__).resolve().parents[2] / "example_workflows"
WORKFLOWS = sorted(path.stem for path in FOLDER.glob("*.json"))

OPEN = "([workflow, name]) => app.loadGraphData(workflow, true, true, name)"

NODES = """() => Object.fromEntries(app.graph.nodes.map(node => [node.id, {
    type: node.type,
    missing: !(node.type in LiteGraph.registered_node_types) || Boolean(node.has_errors),
    links_in: node.inputs.filter(input => input.link != null).map(input => input.link),
    links_out: node.outputs.flatMap(output => output.links ?? []),
    // the front end's preview of a picture is a widget too, but none that is stored
    values: (node.widgets ?? []).filter(widget => widget.name !== "$$canvas-image-preview").map(widget => widget.value),
}]))"""

LINKS = """() => [...app.graph.links.values()].map(link =>
    [link.id, Number(link.origin_id), link.origin_slot, Number(link.target_id), link.target_slot, link.type])"""

# A widget has an input as well, for those who rather link it; the front end puts these after the other inputs.
INTERFACES = """() => Object.fromEntries(Object.keys(LiteGraph.registered_node_types)
    .filter(type => type.startsWith("ADE_"))
    .map(type => [type, LiteGraph.createNode(type)])
    .map(([type, node]) => [type, {
        sockets: node.inputs.filter(input => !input.widget).map(input => [input.name, input.type]),
        widgets: node.inputs.filter(input => input.widget).map(input => [input.name, input.type]),
        outputs: node.outputs.map(output => [output.name, output.type]),
    }]))"""


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(params=WORKFLOWS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def workflow(name: str, page) -> dict:
    """A workflow file, opened in the front end."""
    workflow = read(FOLDER / f"{name}.json")
    page.evaluate(OPEN, [workflow, name])
    return workflow


def test_opens_complete(workflow, page):
    nodes = page.evaluate(NODES)
    assert [node["type"] for node in nodes.values() if node["missing"]] == []

    values = {id: (node["type"], node["values"]) for id, node in nodes.items()}
    assert values == {str(node["id"]): (node["type"], node.get("widgets_values", [])) for node in workflow["nodes"]}

    # A link is stored in three places: by itself and at its two ends.
    links = page.evaluate(LINKS)
    assert sorted(links) == sorted(workflow["links"])
    ids = sorted(link[0] for link in links)
    assert sorted(link for node in nodes.values() for link in node["links_in"]) == ids
    assert sorted(link for node in nodes.values() for link in node["links_out"]) == ids


def test_run_queues_the_prompt_of_the_api_form(name, workflow, page):
    """The button Run sends what example_workflows/api has, and the server takes it (the empty model files fail later)."""
    with page.expect_response("**/api/prompt") as sent:
        page.get_by_test_id("queue-button").click()
    assert sent.value.ok, sent.value.text()
    assert sent.value.json()["node_errors"] == {}

    queued = sent.value.request.post_data_json["prompt"]
    api = read(FOLDER / "api" / f"{name}.json")
    stated = {(node["class_type"], input) for node in api.values() for input in node["inputs"]}
    wanted = [tree(api, node, stated) for node in api]
    found = [tree(queued, node, stated) for node in queued]
    assert [node for node in found if node not in wanted] == []
    assert [node for node in wanted if node not in found] == []
    assert len(found) == len(wanted)


def tree(prompt: dict, node: str, stated: set[tuple[str, str]]) -> tuple[str, dict]:
    """A node with all that leads to it, without ids.

    `stated` are the inputs (class type, name) that the API form states: the front end also sends optional
    widgets at their defaults.
    """
    class_type = prompt[node]["class_type"]
    inputs = {}
    for name, value in prompt[node]["inputs"].items():
        if isinstance(value, list):
            origin, slot = value
            inputs[name] = (tree(prompt, origin, stated), slot)
        elif (class_type, name) in stated:
            inputs[name] = value
    return class_type, inputs


def test_is_offered_as_a_template_with_a_picture(name, page, example_server):
    templates = f"{example_server.url}/api/workflow_templates"
    assert name in page.request.get(templates).json()[PACK]
    assert page.request.get(f"{templates}/{PACK}/{name}.jpg").ok

    page.goto(f"{example_server.url}/?template={name}&source={PACK}")
    nodes = len(read(FOLDER / f"{name}.json")["nodes"])
    page.wait_for_function("count => window.app?.isGraphReady && app.graph.nodes.length === count", arg=nodes)


def test_nodes_have_the_inputs_and_outputs_that_workflow_files_rely_on(page):
    incumbent = interface()
    served = page.evaluate(INTERFACES)
    assert served
    for class_type, node in served.items():
        theirs = incumbent[class_type]
        inputs = [[name, kind] for group in ("required", "optional") for name, (kind, *_) in theirs[group].items()]
        outputs = zip(theirs["output_name"], theirs["output"], strict=True)
        widgets = [name for name, _ in node["widgets"]]
        expected = {
            "sockets": [input for input in inputs if input[0] not in widgets],
            "widgets": [input for input in inputs if input[0] in widgets],
            "outputs": [list(output) for output in outputs],
        }
        assert node == expected, class_type
