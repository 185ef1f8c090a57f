"""Make workflow files and their pictures from API prompts: `python dev/example_workflows.py NAME ...`.

example_workflows/api/NAME.json goes through ComfyUI's own front end (Chromium, Playwright), which knows how it stores
nodes and widgets; the nodes are laid out in columns, from left to right along the links.
"""

import io
import json
import shutil
import sys
import tempfile
from pathlib import Path

import hosts
from PIL import Image
from playwright.sync_api import Page, sync_playwright
from server import Server

from examples import EXAMPLES, api_form, lay_out_files, with_pack_named

READY = "window.app?.extensionManager?.workflow?.activeWorkflow?.isLoaded"
OPEN = """async ([api, name]) => {
    await app.loadApiJson(api, name);
    const nodes = app.graph.nodes, byId = new Map(nodes.map(node => [String(node.id), node]));
    const depth = new Map();
    const depthOf = node => {
        if (!depth.has(node)) {
            const from = node.inputs.map(i => i.link).filter(l => l != null).map(l => byId.get(String(app.graph.links.get(l).origin_id)));
            depth.set(node, from.length ? 1 + Math.max(...from.map(depthOf)) : 0);
        }
        return depth.get(node);
    };
    const bottom = [];
    for (const node of nodes) {
        const column = depthOf(node), [width, height] = node.computeSize();
        // room for a text of some lines, and for the picture that appears below its name
        const more = {CLIPTextEncode: 60, LoadImage: 270}[node.type] ?? 0;
        node.setSize([Math.max(340, Math.min(width, 400)), height + more]);
        // a fixed seed: what is queued twice is computed once
        for (const widget of node.widgets ?? []) if (widget.name === "control_after_generate") widget.value = "fixed";
        node.pos = [column * 460, bottom[column] ?? 0];
        bottom[column] = node.pos[1] + node.size[1] + 80;
    }
    app.graph.setDirtyCanvas(true, true);
    return app.graph.serialize();
}"""
FIT = """() => {
    const nodes = app.graph.nodes;
    const right = Math.max(...nodes.map(n => n.pos[0] + n.size[0])), bottom = Math.max(...nodes.map(n => n.pos[1] + n.size[1]));
    const scale = Math.min((innerWidth - 160) / right, (innerHeight - 180) / bottom, 1);
    app.canvas.ds.scale = scale;
    app.canvas.ds.offset = [100 / scale, 140 / scale];  // clear of the side bar and the tabs
    app.graph.setDirtyCanvas(true, true);
}"""
# Wide enough that the front end still draws the text of the nodes.
SCREEN = {"width": 3000, "height": 1300}
PICTURE_WIDTH = 1200  # small enough that all of them go into the registry's package, large enough to read


def numbered(api: dict) -> dict:
    """The same prompt with numbers for ids, which workflow files need."""
    number = {name: str(i) for i, name in enumerate(api, 1)}

    def link(value):
        return [number[value[0]], value[1]] if isinstance(value, list) else value

    return {
        number[name]: {**node, "inputs": {key: link(value) for key, value in node["inputs"].items()}}
        for name, node in api.items()
    }


def make(page: Page, name: str, api: dict) -> None:
    workflow = with_pack_named(page.evaluate(OPEN, [numbered(api), name]))
    (EXAMPLES / f"{name}.json").write_text(json.dumps(workflow, indent=1) + "\n", encoding="utf-8")
    page.evaluate(FIT)
    page.wait_for_timeout(1000)
    for problem in page.locator(".p-toast-message, [role=alert]").all_text_contents():
        print(f"{name}: {problem}")
    save_picture(Image.open(io.BytesIO(page.screenshot())), EXAMPLES / f"{name}.jpg")
    print(EXAMPLES / f"{name}.json")


def save_picture(screen: Image.Image, path: Path) -> None:
    height = round(PICTURE_WIDTH * screen.height / screen.width)
    smaller = screen.convert("RGB").resize((PICTURE_WIDTH, height), Image.Resampling.LANCZOS)
    smaller.save(path, quality=50, optimize=True, progressive=True)


def main() -> None:
    prompts = {name: api_form(name) for name in sys.argv[1:]}
    with tempfile.TemporaryDirectory() as tmp, sync_playwright() as playwright:
        models, run = Path(tmp) / "models", Path(tmp) / "run"
        lay_out_files(list(prompts.values()), models, run)
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=arguments)
        with Server(hosts.host(), run, models=[models]) as server:
            server.post("/settings", {"Comfy.TutorialCompleted": True})
            for name, api in prompts.items():
                # a page for each: the front end tells of files that an earlier workflow lacked
                page = browser.new_page(viewport=SCREEN)
                page.route(lambda url: not url.startswith(server.url), lambda route: route.abort())
                page.goto(server.url)
                page.wait_for_function(READY, timeout=240_000)
                make(page, name, api)
                page.close()


if __name__ == "__main__":
    main()
