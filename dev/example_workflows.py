"""Make workflow files from API prompts: `python dev/example_workflows.py [NAME ...]`; all of them without names.

example_workflows/api/NAME.json goes through ComfyUI's own front end (Chromium, Playwright), which knows how it stores
nodes and widgets, and how large they are; dev/layout.py says where they stand, dev/templates/NAME.md what the note says.
`--look FOLDER` also leaves a screenshot of each there. Their thumbnails: dev/thumbnails.py.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import hosts
import layout
from canvas import FIT, OPEN_WORKFLOW, READY, SCREEN, VUE_NODES
from playwright.sync_api import Page, sync_playwright
from server import Server

from examples import NAMES, api_form, lay_out_files, models_of, note, title, with_pack_named, workflow_file

# Room for what appears in a node: texts of some lines, pictures, animations.
MORE = {
    "CLIPTextEncode": 60,
    "PrimitiveStringMultiline": 60,
    "ADE_PromptSchedulingLatents": 60,
    "AnimateDiffPromptScheduling": 60,
    "AnimateDiffMotionPath": 40,
    "AnimateDiffCameraPath": 40,
    "LoadImage": 270,
    "LoadVideo": 230,
    "PreviewImage": 260,
    "SaveAnimatedWEBP": 330,
    "SaveVideo": 280,
    "LossGraphNode": 260,
    "PreviewAny": 160,
}
WIDTH, NOTE_WIDTH = 360, 440
LINE, CHARACTERS = 20, 66  # of a note: how high a line is, and how much goes into it
OPEN = """async ([api, name, note, sizes]) => {
    await app.loadApiJson(api, name);
    const text = LiteGraph.createNode("MarkdownNote");
    app.graph.add(text);
    text.widgets[0].value = note;
    for (const node of app.graph.nodes) {
        const [width, height] = node.computeSize(), more = sizes.more[node.type] ?? 0;
        node.setSize(node === text ? sizes.note : [sizes.width, height + more]);
        // a fixed seed: what is queued twice is computed once
        for (const widget of node.widgets ?? []) if (widget.name === "control_after_generate") widget.value = "fixed";
    }
    return app.graph.nodes.map(node => [String(node.id), node.type]);
}"""
# What nodes take on the screen; in Vue nodes that is more than they were given.
MEASURE = """() => {
    const scale = app.canvas.ds.scale;
    const shown = id => document.querySelector(`[data-node-id="${id}"]`)?.getBoundingClientRect();
    return Object.fromEntries(app.graph.nodes.map(node => [String(node.id),
        [node.size[0], Math.ceil(Math.max(node.size[1], (shown(node.id)?.height ?? 0) / scale - LiteGraph.NODE_TITLE_HEIGHT))]]));
}"""
PLACE = """([places, sizes]) => {
    for (const node of app.graph.nodes) {
        node.pos = places[node.id];
        node.setSize(sizes[node.id]);
    }
    return app.graph.serialize();
}"""
SPACE = uuid.UUID("0d9d0c5e-3c1f-4f7e-9d0f-6a2f0c3d7b10")  # ids of workflows come from their names, and stay


def numbered(api: dict) -> dict:
    """The same prompt with numbers for ids, which workflow files need."""
    number = {name: str(i) for i, name in enumerate(api, 1)}

    def link(value):
        return [number[value[0]], value[1]] if isinstance(value, list) else value

    return {
        number[name]: {**node, "inputs": {key: link(value) for key, value in node["inputs"].items()}}
        for name, node in api.items()
    }


def without_nothing(value):
    """What is stored, without the many keys whose value is null; a link that is null says that there is none."""
    if isinstance(value, dict):
        return {key: without_nothing(each) for key, each in value.items() if each is not None or key == "link"}
    return [without_nothing(each) for each in value] if isinstance(value, list) else value


def with_models(workflow: dict, api: dict) -> dict:
    """With the addresses of the files in the loaders: the front end offers to download what is missing."""
    found = {int(id): models_of(node) for id, node in api.items()}
    nodes = [
        {**node, "properties": {**node["properties"], "models": found[node["id"]]}} if found.get(node["id"]) else node
        for node in workflow["nodes"]
    ]
    return {**workflow, "nodes": nodes}


def note_size(text: str) -> tuple[int, int]:
    """Room for all lines of a note; addresses of links are not shown."""
    shown = re.sub(r"\]\([^)]*\)", "]", text).splitlines()
    return NOTE_WIDTH, 70 + LINE * sum(-(-max(len(line), 1) // CHARACTERS) for line in shown)


def make(page: Page, name: str) -> dict:
    api = numbered(api_form(name))
    more = {"more": MORE, "note": note_size(note(name)), "width": WIDTH}
    kinds = dict(page.evaluate(OPEN, [api, title(name), note(name), more]))
    (text,) = (id for id, kind in kinds.items() if kind == "MarkdownNote")
    page.evaluate(VUE_NODES, True)
    page.wait_for_timeout(1500)
    sizes = page.evaluate(MEASURE)
    page.evaluate(VUE_NODES, False)
    page.wait_for_timeout(500)
    places, groups = layout.lay_out({"Note": [text], **layout.stages(api)}, sizes)
    groups = [group for group in groups if group.title != "Note"]
    stored = with_models(with_pack_named(without_nothing(page.evaluate(PLACE, [places, sizes]))), api)
    return {**stored, "id": str(uuid.uuid5(SPACE, name)), "groups": layout.as_stored(groups)}


@contextmanager
def front_end(prompts: list[dict]) -> Iterator[Page]:
    """ComfyUI's front end in Chromium, with all files that the prompts name."""
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with tempfile.TemporaryDirectory() as tmp, sync_playwright() as playwright:
        models, run = Path(tmp) / "models", Path(tmp) / "run"
        lay_out_files(prompts, models, run)
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=arguments)
        with Server(hosts.host(), run, models=[models]) as server:
            server.post("/settings", {"Comfy.TutorialCompleted": True})
            page = browser.new_page(viewport=SCREEN)
            page.route(lambda url: not url.startswith(server.url), lambda route: route.abort())
            page.goto(server.url)
            page.wait_for_function(READY, timeout=240_000)
            yield page


def look(page: Page, name: str, path: Path) -> None:
    workflow = json.loads(workflow_file(name).read_text(encoding="utf-8"))
    page.evaluate(OPEN_WORKFLOW, [workflow, name])
    page.evaluate(FIT)
    page.wait_for_timeout(1000)
    page.screenshot(path=path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument("--look", type=Path, metavar="FOLDER", help="for screenshots")
    options = parser.parse_args()
    with front_end(list(map(api_form, options.names))) as page:
        for name in options.names:
            # a front end that has had other workflows fills widgets that an API form leaves out with values of theirs
            page.reload()
            page.wait_for_function(READY, timeout=240_000)
            file = workflow_file(name)
            file.write_text(json.dumps(make(page, name), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            print(file, flush=True)
            if options.look:
                options.look.mkdir(parents=True, exist_ok=True)
                look(page, name, options.look / f"{name}.png")


if __name__ == "__main__":
    main()
