"""Our nodes in ComfyUI's own front end, set to another language."""

from __future__ import annotations

import json

import pytest
from animatediff_dev_pack import ROOT

LOCALES = ROOT / "locales"
LANGUAGES = sorted(folder.name for folder in LOCALES.iterdir() if folder.is_dir())

# What the front end shows, in the shape of our files.
SHOWN = """types => Object.fromEntries(types.map(type => {
    const node = LiteGraph.createNode(type)
    const named = name => node.widgets?.find(widget => widget.name === name)?.label
        ?? node.inputs.find(input => input.name === name)?.localized_name
    return [type, {
        display_name: node.title,
        description: node.constructor.nodeData.description,
        category: node.constructor.category,
        inputs: Object.fromEntries([...node.inputs, ...node.widgets ?? []].map(({ name }) => [name, named(name)])),
        outputs: node.outputs.map(output => output.localized_name),
    }]
}))"""


@pytest.fixture(params=LANGUAGES)
def language(request, example_server):
    example_server.post("/settings", {"Comfy.Locale": request.param})
    yield request.param
    example_server.post("/settings", {"Comfy.Locale": "en"})


def test_nodes_are_shown_in_the_language_of_the_settings(language, page):
    definitions, rest = (
        json.loads((LOCALES / language / name).read_text(encoding="utf-8")) for name in ("nodeDefs.json", "main.json")
    )
    shown = page.evaluate(SHOWN, list(definitions))
    for node_id, words in definitions.items():
        node = shown[node_id]
        named = words.keys() & {"display_name", "description"}  # a name that stays as it is is not among them
        assert {key: node[key] for key in named} == {key: words[key] for key in named}
        for name, entry in words.get("inputs", {}).items():
            assert node["inputs"][name] == entry.get("name", name), (node_id, name)
        for number, entry in words.get("outputs", {}).items():
            if "name" in entry:
                assert node["outputs"][int(number)] == entry["name"], (node_id, number)
    keyframe = shown["ADE_AnimateDiffKeyframe"]
    assert keyframe["outputs"] == [rest["dataTypes"]["AD_KEYFRAMES"]]
    assert shown["ADE_MultivalDynamic"]["category"] == f"AnimateDiff/{rest['nodeCategories']['multival']}"
