"""The example workflows as files: names, notes, groups, places of nodes, addresses of models, thumbnails."""

import json
import re

import pytest
from animatediff_dev_examples import (
    ADDRESSES,
    EXAMPLES,
    FILE_INPUTS,
    NAMES,
    NOTES,
    api_form,
    models_of,
    note,
    title,
    workflow_file,
)
from animatediff_dev_pack import ROOT, import_file
from PIL import Image, ImageStat

layout = import_file("animatediff_dev_layout", ROOT / "dev" / "layout.py")
BADGE = 20  # what the name of the pack adds to a Vue node
MOST_THUMBNAIL = (400, 40_000)  # pixels wide, bytes
EMPTY_BY_NATURE = {
    "text",
    "caption",
    "base",
    "default_caption",
    "append_text",
    "frame_strengths",
    "over_frames",
    "ranks",
}


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def workflow(name: str) -> dict:
    return json.loads(workflow_file(name).read_text(encoding="utf-8"))


def test_every_example_has_a_workflow_a_thumbnail_and_a_note_and_nothing_is_left_over():
    assert len(NAMES) >= 14
    assert {path.stem for path in NOTES.glob("*.md")} == set(NAMES)
    titles = {title(name) for name in NAMES}
    for kind in ("json", "jpg"):
        assert {path.stem for path in EXAMPLES.glob(f"*.{kind}")} == titles


def test_titles_are_words_in_an_order_that_begins_with_text_to_video():
    titles = sorted(map(title, NAMES))
    assert titles[0] == "AnimateDiff 01 Text to Video"
    for i, each in enumerate(titles, 1):
        assert re.fullmatch(rf"AnimateDiff {i:02}( [A-Za-z-]+)+", each), each


def test_the_note_says_which_files_go_where(name, workflow):
    (text,) = (node["widgets_values"][0] for node in workflow["nodes"] if node["type"] == "MarkdownNote")
    assert text == note(name), f"run: python dev/example_workflows.py {name}"
    assert "{files}" not in text
    assert "`" not in text  # code is blue on blue in Vue nodes
    for model in (model for node in api_form(name).values() for model in models_of(node)):
        assert f"[{model['name']}]({model['url']}) into **models/{model['directory']}**" in text


def test_every_loader_has_the_address_of_its_file(name, workflow):
    stored = sorted(
        json.dumps(node["properties"]["models"]) for node in workflow["nodes"] if "models" in node["properties"]
    )
    wanted = [models_of(node) for node in api_form(name).values()]
    assert stored == sorted(json.dumps(models) for models in wanted if models)
    named = {node["inputs"].get(input) for node in api_form(name).values() for input in FILE_INPUTS}
    files = {value for value in named if isinstance(value, str)}
    assert files <= set(ADDRESSES)
    assert files
    assert all(file in (values := json.dumps(workflow)) and ADDRESSES[file] in values for file in files)


def test_nodes_stand_in_groups_and_nothing_overlaps(workflow):
    nodes = layout.boxes(workflow["nodes"])
    assert all(width > 0 and height > layout.TITLE for _, _, width, height in nodes.values())
    places = sorted(nodes.items())
    crowded = [(i, j) for i, a in places for j, b in places if i < j and layout.overlap(a, b, BADGE)]
    assert crowded == []

    groups = [(group["title"], tuple(group["bounding"])) for group in workflow["groups"]]
    assert groups
    assert all(words for words, _ in groups)
    assert [(a, b) for a, box in groups for b, other in groups if a < b and layout.overlap(box, other)] == []
    notes = {node["id"] for node in workflow["nodes"] if node["type"] == "MarkdownNote"}
    for id, box in nodes.items():
        around = [group for _, group in groups if layout.overlap(box, group)]
        if id in notes:
            assert around == []
        else:
            ((left, top, width, height),) = around
            assert left < box[0], id
            assert top < box[1], id
            assert box[0] + box[2] < left + width, id
            assert box[1] + box[3] + BADGE <= top + height, id


def test_no_value_is_missing(workflow):
    for node in workflow["nodes"]:
        widgets = [(input["widget"]["name"], input["link"]) for input in node["inputs"] if "widget" in input]
        values = node.get("widgets_values", [])
        assert len(values) >= len(widgets), node["type"]
        assert None not in values, node["type"]
        if node["type"] != "MarkdownNote" and "control_after_generate" not in dict(widgets):
            empty = {name for (name, link), value in zip(widgets, values, strict=False) if value == "" and link is None}
            assert empty <= EMPTY_BY_NATURE | {"negative"}, node["type"]


def test_the_thumbnail_is_small_and_bright(name):
    """Sheets of frames of the toy world, not whole screens: those were dark."""
    path = workflow_file(name).with_suffix(".jpg")
    with Image.open(path) as picture:
        assert picture.format == "JPEG"
        assert picture.width <= MOST_THUMBNAIL[0]
        assert picture.height <= 1.5 * picture.width
        brightness = ImageStat.Stat(picture.convert("L")).mean[0]
    assert path.stat().st_size <= MOST_THUMBNAIL[1]
    assert brightness > 60


def test_every_example_is_run_by_a_test_in_a_server(name):
    sources = (
        path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("*/test_*.py") if path.parent.name != "unit"
    )
    assert any(f'"{name}"' in source for source in sources)
