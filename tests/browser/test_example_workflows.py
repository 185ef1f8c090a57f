"""The example workflows and all our nodes in ComfyUI's own front end."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from animatediff_dev_canvas import FIT, OPEN_WORKFLOW, SCREEN, VUE_NODES
from animatediff_dev_examples import NAMES, api_form, title, workflow_file
from animatediff_dev_pack import ROOT, import_file
from animatediff_dev_reference import interface
from animatediff_dev_server import PACK

layout = import_file("animatediff_dev_layout", ROOT / "dev" / "layout.py")

NODES = """() => Object.fromEntries(app.graph.nodes.map(node => [node.id, {
    type: node.type,
    missing: !(node.type in LiteGraph.registered_node_types) || Boolean(node.has_errors),
    links_in: node.inputs.filter(input => input.link != null).map(input => input.link),
    links_out: node.outputs.flatMap(output => output.links ?? []),
    // previews of pictures and texts are widgets too, but none that are stored
    values: (node.widgets ?? []).filter(widget => widget.serialize !== false).map(widget => widget.value),
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

# As they are on the screen, in the lengths of the graph; groups are drawn on the canvas in both ways of drawing nodes.
BOXES = """() => {
    const scale = app.canvas.ds.scale, title = LiteGraph.NODE_TITLE_HEIGHT;
    return app.graph.nodes.map(node => {
        const shown = document.querySelector(`[data-node-id="${node.id}"]`)?.getBoundingClientRect();
        const height = Math.max(node.size[1] + title, (shown?.height ?? 0) / scale);
        return [node.type, node.pos[0], node.pos[1] - title, Math.max(node.size[0], (shown?.width ?? 0) / scale), height];
    });
}"""


def read(name: str) -> dict:
    return json.loads(workflow_file(name).read_text(encoding="utf-8"))


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def workflow(name: str, module_page) -> dict:
    """A workflow file, opened in the front end."""
    workflow = read(name)
    module_page.evaluate(OPEN_WORKFLOW, [workflow, name])
    return workflow


def test_opens_complete(workflow, module_page):
    nodes = module_page.evaluate(NODES)
    assert [node["type"] for node in nodes.values() if node["missing"]] == []

    values = {id: (node["type"], node["values"]) for id, node in nodes.items()}
    assert values == {str(node["id"]): (node["type"], node.get("widgets_values", [])) for node in workflow["nodes"]}

    # A link is stored in three places: by itself and at its two ends.
    links = module_page.evaluate(LINKS)
    assert sorted(links) == sorted(workflow["links"])
    ids = sorted(link[0] for link in links)
    assert sorted(link for node in nodes.values() for link in node["links_in"]) == ids
    assert sorted(link for node in nodes.values() for link in node["links_out"]) == ids


def test_run_queues_the_prompt_of_the_api_form(name, workflow, module_page):
    """The button Run sends what example_workflows/api has, and the server takes it (the empty model files fail later)."""
    with module_page.expect_response("**/api/prompt") as sent:
        module_page.get_by_test_id("queue-button").click()
    assert sent.value.ok, sent.value.text()
    assert sent.value.json()["node_errors"] == {}

    queued = sent.value.request.post_data_json["prompt"]
    api = api_form(name)
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


def test_nothing_overlaps_in_vue_nodes_either(name, workflow, module_page, keep):
    module_page.set_viewport_size(SCREEN)
    module_page.evaluate(FIT)
    keep(module_page, f"{title(name)}, canvas")
    module_page.evaluate(VUE_NODES, True)
    try:
        module_page.wait_for_function(
            "count => document.querySelectorAll('[data-node-id]').length >= count", arg=len(workflow["nodes"])
        )
        module_page.wait_for_timeout(1000)  # for texts and pictures to take their room
        boxes = module_page.evaluate(BOXES)
        keep(module_page, f"{title(name)}, Vue nodes")
    finally:
        module_page.evaluate(VUE_NODES, False)
    pairs = [(a, b) for i, a in enumerate(boxes) for b in boxes[:i]]
    assert [(a, b) for a, b in pairs if layout.overlap(a[1:], b[1:])] == []


def test_templates_are_found_and_open_with_a_click(page, example_server, keep):
    """All of them by the word that a user would type; the picture is one that the browser shows."""
    served = page.request.get(f"{example_server.url}/api/workflow_templates").json()[PACK]
    assert sorted(served) == sorted(map(title, NAMES))
    for name in NAMES:
        assert page.request.get(f"{example_server.url}/api/workflow_templates/{PACK}/{quote(title(name))}.jpg").ok

    page.evaluate("app.extensionManager.command.execute('Comfy.BrowseTemplates')")
    page.get_by_role("dialog").get_by_placeholder("Search").first.fill("animatediff")
    for name in NAMES:
        page.get_by_test_id(f"template-workflow-{title(name)}").wait_for()
    keep(page, "the list of templates")
    page.get_by_test_id(f"template-workflow-{title('txt2vid')}").click()
    page.wait_for_function(
        "count => window.app?.isGraphReady && app.graph.nodes.length === count", arg=len(read("txt2vid")["nodes"])
    )


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
