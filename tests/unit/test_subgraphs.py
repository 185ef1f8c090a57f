"""The subgraph blueprints as files."""

import json

import pytest
from animatediff_dev_examples import models_of
from animatediff_dev_pack import ROOT, import_script

subgraphs = import_script("animatediff_dev_subgraphs", ROOT / "dev" / "subgraphs.py")


def test_there_is_a_file_for_each_and_no_other():
    assert 3 <= len(subgraphs.BLUEPRINTS) <= 5
    assert {path.stem for path in subgraphs.FOLDER.iterdir()} == set(subgraphs.BLUEPRINTS)


@pytest.mark.parametrize("title", subgraphs.BLUEPRINTS)
def test_a_blueprint_is_what_the_example_workflow_makes_it(title):
    assert subgraphs.file_of(title).read_text(encoding="utf-8") == subgraphs.made(title), "run: python dev/subgraphs.py"


@pytest.mark.parametrize("title", subgraphs.BLUEPRINTS)
def test_links_lead_from_what_is_there_to_what_is_there(title):
    stored = json.loads(subgraphs.made(title))
    (box,), (inside,) = stored["nodes"], stored["definitions"]["subgraphs"]
    assert box["type"] == inside["id"]
    assert [socket["name"] for socket in box["inputs"]] == [socket["name"] for socket in inside["inputs"]]
    assert len(box["widgets_values"]) == len(box["properties"]["proxyWidgets"])
    assert len({socket["name"] for socket in inside["inputs"]}) == len(inside["inputs"])
    nodes = {node["id"]: node for node in inside["nodes"]}
    links = {link["id"]: link for link in inside["links"]}
    assert len(links) == len(inside["links"])
    for link in links.values():
        origin = (
            inside["inputs"] if link["origin_id"] == inside["inputNode"]["id"] else nodes[link["origin_id"]]["outputs"]
        )
        target = (
            inside["outputs"] if link["target_id"] == inside["outputNode"]["id"] else nodes[link["target_id"]]["inputs"]
        )
        given, taken = origin[link["origin_slot"]], target[link["target_slot"]]
        assert given["type"] == taken["type"] == link["type"]
        assert link["id"] in (given.get("linkIds") or given["links"])
        assert taken.get("link") == link["id"] or link["id"] in taken["linkIds"]
    held = {socket["link"] for node in nodes.values() for socket in node["inputs"] if socket.get("link") is not None}
    assert held | {link for socket in inside["outputs"] for link in socket["linkIds"]} == set(links)


def test_files_keep_their_addresses():
    stored = json.loads(subgraphs.made("AnimateDiff Text to Video"))
    nodes = stored["definitions"]["subgraphs"][0]["nodes"]
    named = [model["name"] for node in nodes for model in node["properties"].get("models", [])]
    assert named == ["v1-5-pruned-emaonly-fp16.safetensors", "mm_sd_v15_v2.ckpt"]
    assert models_of({"inputs": {"ckpt_name": named[0]}})[0] in nodes[0]["properties"]["models"]
