"""The screenshots of docs/first-hour.md, taken anew: `python dev/first_hour.py`, or with names of pictures for these alone.

A newcomer's first hour in a real ComfyUI and its own front end (Chromium, Playwright), with the toy world's models, small enough for
a CPU. Look at the pictures afterwards: what is unclear on them is unclear to a newcomer.
"""

import io
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import hosts
from canvas import FIT, OPEN_WORKFLOW, READY, REMEMBER_FILES, SEARCH_READY
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright
from server import PACK, Server

sys.path.insert(0, str(hosts.ROOT))
from toyworld.videos import path_towards, write_clips

# What other files call what is shown here: the templates, their widgets, and the toy world's files.
TEXT_TO_VIDEO = "AnimateDiff 01 Text to Video"
TRAINING = "AnimateDiff 19 Train from a Folder of Videos"
MODEL = "toyworld.safetensors"
MOTION_LORA = "toyworld-right.safetensors"
CLIPS = "my_clips"
SMALL = {"ckpt_name": MODEL, "model_name": MODEL, "width": 64, "height": 64, "cfg": 3.0, "text": "a red circle"}
STEPS = {"sampling": 12, "training": 30}

# No tour of ComfyUI's own, and nothing that lies over the nodes.
SETTINGS = {"Comfy.TutorialCompleted": True, "Comfy.Minimap.Visible": False, "Comfy.Graph.CanvasInfo": False}
PICTURES = hosts.ROOT / "docs" / "first-hour"
SCREEN = {"width": 1600, "height": 900}

# `text` is that of the positive prompt: the first one.
SET = """values => {
    const texts = app.graph.nodes.filter(node => node.type === "CLIPTextEncode")
    for (const node of app.graph.nodes)
        for (const widget of node.widgets ?? [])
            if (widget.name in values && (widget.name !== "text" || node === texts[0])) {
                widget.value = values[widget.name]
                widget.callback?.(widget.value)
            }
}"""


def socket(name: str, kind: str, source: tuple[int, int] | None = None) -> tuple:
    return name, kind, source


# A file as those of ComfyUI-AnimateDiff-Evolved are stored (tests/reference/stored_nodes.json): widgets, inputs, outputs of each node.
OLD = {
    1: ("CheckpointLoaderSimple", [MODEL], [], ["MODEL", "CLIP", "VAE"]),
    2: (
        "ADE_AnimateDiffUniformContextOptions",
        [16, 1, 4, "uniform", False, "flat", False, 0, 1, ""],
        [socket("prev_context", "CONTEXT_OPTIONS"), socket("view_opts", "VIEW_OPTS")],
        ["CONTEXT_OPTIONS"],
    ),
    3: (
        "ADE_AnimateDiffLoaderWithContext",
        [MODEL, "sqrt_linear (AnimateDiff)", 1, True, ""],
        [
            socket("model", "MODEL", (1, 0)),
            socket("context_options", "CONTEXT_OPTIONS", (2, 0)),
            socket("motion_lora", "MOTION_LORA"),
            socket("ad_settings", "AD_SETTINGS"),
            socket("sample_settings", "SAMPLE_SETTINGS"),
            socket("ad_keyframes", "AD_KEYFRAMES"),
        ],
        ["MODEL"],
    ),
    4: ("CLIPTextEncode", ["a blue square"], [socket("clip", "CLIP", (1, 1))], ["CONDITIONING"]),
    5: ("CLIPTextEncode", [""], [socket("clip", "CLIP", (1, 1))], ["CONDITIONING"]),
    6: ("EmptyLatentImage", [64, 64, 24], [], ["LATENT"]),
    7: (
        "KSampler",
        [5, "fixed", STEPS["sampling"], 3, "euler", "normal", 1],
        [
            socket("model", "MODEL", (3, 0)),
            socket("positive", "CONDITIONING", (4, 0)),
            socket("negative", "CONDITIONING", (5, 0)),
            socket("latent_image", "LATENT", (6, 0)),
        ],
        ["LATENT"],
    ),
    8: ("VAEDecode", [], [socket("samples", "LATENT", (7, 0)), socket("vae", "VAE", (1, 2))], ["IMAGE"]),
    9: (
        "ADE_AnimateDiffCombine",
        [8, 0, "AnimateDiff", "image/gif", False, True],
        [socket("images", "IMAGE", (8, 0))],
        ["GIF"],
    ),
}
PLACES = {
    1: (0, 0, 320, 98),
    2: (0, 160, 320, 280),
    3: (380, 0, 340, 250),
    4: (380, 310, 340, 120),
    5: (380, 490, 340, 100),
    6: (0, 500, 320, 106),
    7: (780, 0, 320, 262),
    8: (780, 330, 320, 46),
    9: (1160, 0, 340, 520),
}


def old_workflow() -> dict:
    links, nodes = [], []
    for id, (kind, widgets, sockets, outputs) in OLD.items():
        inputs = []
        for slot, (name, socket_kind, source) in enumerate(sockets):
            inputs.append({"name": name, "type": socket_kind, "link": len(links) if source else None})
            if source:
                links.append([len(links), *source, id, slot, socket_kind])
        x, y, width, height = PLACES[id]
        node = {"id": id, "type": kind, "pos": [x, y], "size": [width, height], "flags": {}, "order": id, "mode": 0}
        node |= {"properties": {"Node name for S&R": kind}, "widgets_values": widgets, "inputs": inputs}
        nodes.append({**node, "outputs": [{"name": name, "type": name, "links": []} for name in outputs]})
    for number, source, output, *_ in links:
        nodes[source - 1]["outputs"][output]["links"].append(number)
    last = {"last_node_id": len(nodes), "last_link_id": len(links)}
    return {**last, "nodes": nodes, "links": links, "groups": [], "config": {}, "extra": {}, "version": 0.4}


def is_file(value) -> bool:
    return isinstance(value, str) and value.endswith((".ckpt", ".safetensors"))


class Hour:
    """One front end on one server; each method leaves it as the picture of that name shows it."""

    def __init__(self, server: Server, page: Page):
        self.server, self.page = server, page

    def template(self, name: str, **values) -> None:
        """A template as a click on it opens it, with the toy world's files and sizes chosen in it."""
        workflow = self.server.get(f"/api/workflow_templates/{PACK}/{quote(name)}.json")
        for node in workflow["nodes"]:
            node["properties"].pop("models", None)  # else the front end asks for the files that it names
            if isinstance(node.get("widgets_values"), list):
                node["widgets_values"] = [MODEL if is_file(value) else value for value in node["widgets_values"]]
        self.page.evaluate(OPEN_WORKFLOW, [workflow, name])
        self.page.evaluate(SET, {**SMALL, **values})
        self.page.evaluate(FIT)

    def run(self, timeout: float = 500) -> None:
        """Press Run and wait for the end, whatever it is."""
        before, end = len(self.server.get("/history")), time.monotonic() + timeout
        self.page.get_by_test_id("queue-button").click()
        while len(self.server.get("/history")) == before:
            self.server.check_alive()
            if time.monotonic() > end:
                raise TimeoutError(self.server.log_tail())
            self.page.wait_for_timeout(500)
        self.page.wait_for_timeout(3000)  # the pictures of the result are loaded

    def run_into_an_error(self) -> None:
        self.run()
        self.page.get_by_test_id("error-overlay-see-errors").click()

    def installed(self) -> None:
        self.page.wait_for_function(SEARCH_READY)
        self.page.evaluate("app.graph.clear()")
        self.page.mouse.dblclick(700, 430)
        self.page.get_by_role("combobox").fill("animatediff")
        self.page.get_by_test_id("result-item").first.wait_for()

    def templates(self) -> None:
        self.page.evaluate("app.extensionManager.command.execute('Comfy.BrowseTemplates')")
        self.page.get_by_text(PACK).first.click()
        self.page.wait_for_timeout(2000)

    def first_clip(self) -> None:
        self.template(TEXT_TO_VIDEO, steps=STEPS["sampling"])
        self.run()

    def too_long(self) -> None:
        self.template(TEXT_TO_VIDEO, steps=STEPS["sampling"], batch_size=64)
        self.run_into_an_error()

    def wrong_file(self) -> None:
        self.template(TEXT_TO_VIDEO, steps=STEPS["sampling"], model_name=MOTION_LORA)
        self.run_into_an_error()

    def trained(self) -> None:
        small = {
            "batch": 1,
            "rank": 4,
            "preview_every": 0,
            "gradient_checkpointing": False,
            "frame_rate": 0.0,
            "stride": 1,
        }
        self.template(TRAINING, steps=STEPS["training"], **small)
        self.run()

    def old_file(self) -> None:
        self.page.evaluate(OPEN_WORKFLOW, [old_workflow(), "from 2024"])
        self.page.evaluate(FIT)
        self.run()


STOPS = (Hour.installed, Hour.templates, Hour.first_clip, Hour.too_long, Hour.wrong_file, Hour.trained, Hour.old_file)


@contextmanager
def newcomers_server() -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as tmp:
        host = hosts.host()
        models, run = hosts.toyworld_models(host), Path(tmp)
        write_clips(run / "input" / CLIPS, 12, seed=1, path_of=path_towards("right"))
        misplaced = run / "models" / "animatediff_models"
        misplaced.mkdir(parents=True)
        shutil.copy(models / "animatediff_motion_lora" / MOTION_LORA, misplaced)
        with Server(host, run, models=[models]) as server:
            server.post("/settings", SETTINGS)
            yield server


def take(browser: Browser, server: Server, stop) -> None:
    page = browser.new_page(viewport=SCREEN)
    page.add_init_script(REMEMBER_FILES)
    page.route(lambda url: not url.startswith(server.url), lambda route: route.abort())
    page.goto(server.url)
    page.wait_for_function(READY, timeout=240_000)
    stop(Hour(server, page))
    page.wait_for_timeout(1000)
    path = PICTURES / f"{stop.__name__.replace('_', '-')}.webp"
    Image.open(io.BytesIO(page.screenshot())).convert("RGB").save(path, quality=60, method=6)
    print(f"{path}: {path.stat().st_size:,} bytes", flush=True)
    page.close()


def main() -> None:
    stops = [stop for stop in STOPS if not sys.argv[1:] or stop.__name__ in sys.argv[1:]]
    PICTURES.mkdir(exist_ok=True)
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with newcomers_server() as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=arguments)
        for stop in stops:
            take(browser, server, stop)


if __name__ == "__main__":
    main()
