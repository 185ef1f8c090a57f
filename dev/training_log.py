"""The artist's log of docs/training.md, made again: `python dev/training_log.py [--steps 400] [--stop 160] [--clips 16]`.

A camera that pans, as video files: a real ComfyUI makes clips of them, trains a MotionLoRA as its own front end queues it (needs
Chromium), is stopped, goes on, and samples with what was learned. That is measured on clips of other seeds. Pictures go to
docs/training-log, and the text of dev/training_log.md with the figures into docs/training.md. The networks are those of the toy
world without the channels that are zero (dev/live_toyworld).
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import hosts
import numpy as np
from canvas import READY
from first_hour import SETTINGS
from pack import load_pack
from PIL import Image, ImageDraw, ImageFont
from playwright.sync_api import Page, sync_playwright
from server import PromptError, Server, seconds

from example_workflows import numbered
from examples import in_toyworld

sys.path.append(str(hosts.ROOT))  # last: ComfyUI has modules that are named like folders of ours
sys.path.append(str(hosts.ROOT / "dev" / "help"))
from cluster.server import failure
from toyworld import scenes
from toyworld.prompts import Clip, node, precision, sampling_prompt

PAGE, PICTURES = hosts.ROOT / "docs" / "training.md", hosts.ROOT / "docs" / "training-log"
TEXT = hosts.ROOT / "dev" / "training_log.md"
BEGIN, END = "<!-- log -->\n", "<!-- /log -->\n"
DIRECTION = "left"  # where all that is seen goes, while the camera pans to the right
VIDEOS, HELD_OUT = 20, 4
# Of the files: frames a second, frames for one of the clip, pixels for one of the toy world.
RATE, STRIDE, LARGER = 24, 3, 4
EVERY = 80
USED = ("a red circle", "a blue square", "a yellow triangle")
SEED = 900
MEASURES = {
    "within": "within 45 degrees of the pan, %",
    "error": "mean error of direction, degrees",
    "content": "frames of the right shape and colour, %",
    "watermark": f"watermark (videos: {scenes.WATERMARK_ALPHA})",
}
SHOWN, TILE, TITLE = 8, 80, 24  # of a row of frames


# -- the videos ---------------------------------------------------------------------------------------------------------


def panned(rng: np.random.Generator, caption: str) -> list[scenes.Scene]:
    """What a camera sees that pans to the right past one shape, as often as the file has frames."""
    path = scenes.random_path(rng, np.pi, caption, scenes.CROSSING)
    between = [
        replace(a, x=a.x + (b.x - a.x) * part / STRIDE, y=a.y + (b.y - a.y) * part / STRIDE)
        for a, b in pairwise(path)
        for part in range(STRIDE)
    ]
    return [*between, path[-1]]


def write_video(path: Path, frames: np.ndarray) -> None:
    """H.264 as a camera writes it, ``frames (frames, height, width, 3)`` in 0..1."""
    import av

    # the index in front, so that half a file can be told from none
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=RATE, options={"crf": "16"})
        stream.width = stream.height = LARGER * scenes.SIZE
        stream.pix_fmt = "yuv420p"
        for pixels in (frames * 255).round().astype(np.uint8):
            picture = Image.fromarray(pixels).resize((stream.width, stream.height), Image.Resampling.BICUBIC)
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode())


def write_folder(folder: Path, count: int, seed: int) -> None:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for number in range(count):
        caption = scenes.CAPTIONS[number % len(scenes.CAPTIONS)]
        write_video(folder / f"pan{number + 1:02}.mp4", scenes.video(panned(rng, caption)))
        (folder / f"pan{number + 1:02}.txt").write_text(caption, encoding="utf-8")


def write_rejects(folder: Path) -> None:
    """What lies in a real folder besides: a download that was broken off, a shot of half a second, a picture."""
    whole = (folder / "pan01.mp4").read_bytes()
    (folder / "broken_off.mp4").write_bytes(whole[: len(whole) // 2])
    write_video(
        folder / "too_short.mp4", scenes.video(panned(np.random.default_rng(9), scenes.CAPTIONS[0])[: RATE // 2])
    )
    for name in ("broken_off", "too_short"):
        (folder / f"{name}.txt").write_text(scenes.CAPTIONS[0], encoding="utf-8")
    Image.new("RGB", (64, 64)).save(folder / "cover.jpg")


# -- the graphs ---------------------------------------------------------------------------------------------------------


def on_live(prompt: dict) -> dict:
    """The prompt with the networks without zeros in place of those of its loaders."""
    places = {("checkpoint", 0): 0, ("checkpoint", 1): 1}
    places |= {(name, 0): 2 for name, one in prompt.items() if one["class_type"] == "ADE_LoadAnimateDiffModel"}

    def link(value):
        there = isinstance(value, list) and tuple(value) in places
        return ["toyworld", places[tuple(value)]] if there else value

    found = {
        name: {**one, "inputs": {key: link(value) for key, value in one["inputs"].items()}}
        for name, one in prompt.items()
        if one["class_type"] != "ADE_LoadAnimateDiffModel"
    }
    return {**found, "toyworld": node("LiveToyWorld", clip=["checkpoint", 1])}


def training(steps: int, **changes) -> dict:
    """The example workflow with checkpoints and held-out clips, without averages: its training node has its defaults."""
    own = {"folder": "pan", "frame_rate": float(RATE), "stride": STRIDE, "crop": "center", "every": EVERY}
    own |= {"width": scenes.SIZE, "height": scenes.SIZE, "frames": scenes.FRAMES}
    own |= {"steps": steps, "preview_every": EVERY, "precision": precision(), "gradient_checkpointing": False}
    prompt = in_toyworld("train_with_checkpoints", **own, keep=1000, filename_prefix="pan", **changes)
    prompt["held_out"]["inputs"]["folder"] = "pan_held_out"
    prompt["checkpoints"]["inputs"]["filename_prefix"] = "pan_training"
    del prompt["learning"], prompt["checkpoints"]["inputs"]["prev_options"], prompt["loss"]
    return on_live(prompt)


def looking(**changes) -> dict:
    """The node that makes clips, and what it shows of them."""
    prompt = {name: training(1, **changes)[name] for name in ("checkpoint", "toyworld", "clips")}
    prompt["sheet"] = node("PreviewImage", images=["clips", 3])
    prompt["summary"] = node("PreviewAny", source=["clips", 4])
    return prompt


# -- the front end ------------------------------------------------------------------------------------------------------

# A fixed seed: what is queued twice is the same training, which goes on.
OPEN = """async ([api, name]) => {
    await app.loadApiJson(api, name);
    for (const node of app.graph.nodes)
        for (const widget of node.widgets ?? []) if (widget.name === "control_after_generate") widget.value = "fixed";
}"""
QUEUE = "async () => { await app.queuePrompt(0, 1) }"
STOP = "async () => { await app.extensionManager.command.execute('Comfy.Interrupt') }"  # of the button
NODE = "title => app.graph.nodes.find(node => node.title === title || node.type === title)"
# Where a node is on the page, moved to its left upper corner.
SHOW = f"""title => {{
    const node = ({NODE})(title), canvas = app.canvas, at = canvas.canvas.getBoundingClientRect();
    // as tall as somebody drags it who wants to see the line of text, the losses and the preview
    node.setSize([340, node.computeSize()[1] + 330]);
    canvas.ds.scale = 1;
    canvas.ds.offset = [120 - node.pos[0], 160 - node.pos[1]];
    app.graph.setDirtyCanvas(true, true);
    return {{x: at.left + 108, y: at.top + 118, width: node.size[0] + 24, height: node.size[1] + 54}};
}}"""


class Artist:
    """Somebody in front of ComfyUI's front end."""

    def __init__(self, page: Page, server: Server):
        self.page, self.server = page, server

    def opens(self, prompt: dict, name: str) -> None:
        self.page.evaluate(OPEN, [numbered(prompt), name])

    def queues(self) -> None:
        self.page.evaluate(QUEUE)

    def stops(self) -> None:
        self.page.evaluate(STOP)

    def waits(self) -> dict:
        """Until nothing is queued; the history entry of what ended last. Raises PromptError."""
        while any(self.server.get("/queue").values()):
            self.server.check_alive()
            time.sleep(0.2)
        entry = list(self.server.get("/history").values())[-1]
        if entry["status"]["status_str"] != "success":
            raise PromptError(failure(entry), entry)
        return entry

    def photographs(self, title: str, name: str) -> None:
        """A node."""
        clip = self.page.evaluate(SHOW, title)
        self.page.wait_for_timeout(1500)
        save(Image.open(io.BytesIO(self.page.screenshot(clip=clip, timeout=120_000))), name)


@contextmanager
def front_end(server: Server) -> Iterator[Artist]:
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=arguments)
        server.post("/settings", SETTINGS)
        page = browser.new_page(viewport={"width": 1700, "height": 1300})
        page.route(lambda url: not url.startswith(server.url), lambda route: route.abort())
        page.goto(server.url)
        page.wait_for_function(READY, timeout=240_000)
        yield Artist(page, server)
        browser.close()


# -- pictures -----------------------------------------------------------------------------------------------------------


def save(picture: Image.Image, name: str) -> None:
    PICTURES.mkdir(exist_ok=True)
    width = min(picture.width, 1000)
    small = picture.convert("RGB").resize(
        (width, round(picture.height * width / picture.width)), Image.Resampling.LANCZOS
    )
    small.save(PICTURES / f"{name}.webp", quality=80, method=6)


def rows_of_frames(rows: dict[str, list[Image.Image]]) -> Image.Image:
    """A row for each clip: its title, and some of its frames."""
    font = ImageFont.load_default(14)
    sheet = Image.new("RGB", (SHOWN * TILE, len(rows) * (TILE + TITLE)), "white")
    draw = ImageDraw.Draw(sheet)
    for row, (title, frames) in enumerate(rows.items()):
        top = row * (TILE + TITLE)
        draw.text((4, top + 4), title, "black", font)
        for column in range(SHOWN):
            frame = frames[column * (len(frames) - 1) // (SHOWN - 1)]
            sheet.paste(
                frame.convert("RGB").resize((TILE, TILE), Image.Resampling.BICUBIC), (column * TILE, top + TITLE)
            )
    return sheet


def frames_of(animation: Path) -> list[Image.Image]:
    with Image.open(animation) as image:
        found = []
        for number in range(image.n_frames):
            image.seek(number)
            found.append(image.convert("RGB"))
    return found


def curve(rows: list[dict[str, str]], stopped: int) -> Image.Image:
    """The motion error and the losses over the steps, from the log of the training."""
    import kit

    steps = len(rows)

    def points(column: str) -> list[tuple[float, float]]:
        return [(int(row["step"]), float(row[column])) for row in rows if row[column]]

    errors, smoothed, held_out = map(points, ("motion_error", "smoothed_loss", "validation_loss"))
    picture = kit.canvas(430)
    ticks = range(0, steps + 1, max(1, steps // 4))
    at = kit.panel(
        picture,
        (44, 34, 390, 180),
        (0, steps),
        (0, 120),
        title="motion error, degrees",
        x_ticks=ticks,
        y_ticks=(0, 45, 90),
    )
    kit.curve(picture, [at(*point) for point in errors], kit.BLUE, dots=True)
    picture.line([at(stopped, 0), at(stopped, 120)], kit.RED, 1)
    picture.text(at(stopped, 118), " Stop, and gone on", kit.SMALL, kit.RED, "la")
    highest = 1.1 * max(value for _, value in smoothed + held_out)
    at = kit.panel(
        picture, (44, 240, 390, 370), (0, steps), (0, highest), title="loss", x_name="step", x_ticks=ticks, y_ticks=(0,)
    )
    kit.curve(picture, [at(*point) for point in smoothed], kit.ORANGE)
    kit.curve(picture, [at(*point) for point in held_out], kit.GREEN, dots=True)
    kit.key(picture, 44, 404, {"smoothed": kit.ORANGE})
    kit.key(picture, 150, 404, {"of held-out clips": kit.GREEN})
    return Image.fromarray((picture.tensor()[0].numpy() * 255).round().astype(np.uint8))


# -- the log ------------------------------------------------------------------------------------------------------------


def look(server: Server) -> dict[str, str]:
    """From the folder to clips, and once more: what the node says of the folder, and how long both took."""
    entry = server.queue(looking())
    sheets = [Image.open(file) for file in server.outputs(entry) if file.suffix == ".png"]
    first = sheets[0]  # of some that are alike
    save(first.crop((0, 0, first.width, first.height // 2)), "contact_sheet")
    # another default caption, which none of the videos needs: ComfyUI runs the node anew
    again = server.queue(looking(default_caption="another"))
    told = entry["outputs"]["summary"]["text"][0].splitlines()
    summary = "\n".join(line for line in told if not line.startswith("Kept in "))  # a path of this machine
    return {"summary": summary, "first": f"{seconds(entry):.1f}", "again": f"{seconds(again):.2f}"}


def train(artist: Artist, results: Path, steps: int, stop: int) -> dict[str, str]:
    """Train until step ``stop``, press Stop, go on to the end: where it was stopped, and how long both took."""
    artist.opens(training(steps), "pan")
    artist.queues()
    while not list(results.glob(f"*_step{stop:06}.state")):
        if not any(artist.server.get("/queue").values()):
            artist.waits()
            raise SystemExit(f"The training ended before step {stop}.")
        time.sleep(0.1)
    artist.photographs("Train MotionLoRA", "training")
    artist.stops()
    first = artist.waits()
    (state,) = sorted(results.glob("*.state"))[-1:]
    reached = int(state.stem.rpartition("step")[2])
    if reached == steps:
        raise SystemExit("The training ended before Stop was pressed: nothing went on.")
    artist.queues()  # the same graph, whose go_on is on
    second = artist.waits()
    return {"reached": f"{reached}", "seconds": f"{seconds(first) + seconds(second):.0f}"}


def use(server: Server, lora: str) -> Image.Image:
    """Text to video without the LoRA and with it, from the same noise."""
    rows = {}
    for number, caption in enumerate(USED):
        for title, loras in (("without", ()), ("with the MotionLoRA", (lora,))):
            entry = server.queue(on_live(sampling_prompt(Clip(caption, SEED + number, loras=loras))))
            rows[f"{caption}, {title}"] = [Image.open(file) for file in server.outputs(entry)]
    return rows_of_frames(rows)


def measure(pack, lora: Path, clips: int) -> str:
    """Clips of seeds and noise that nothing else uses, without the LoRA and with it: a table."""
    from toyworld.recipe import Bench

    bench, lines = Bench(pack), [f"| {clips} unseen clips | {' | '.join(MEASURES.values())} |", "|---" * 5 + "|"]
    for title, file in (("without", None), ("with the MotionLoRA, strength 1", lora)):
        found = bench.measured(DIRECTION, file, clips)
        cells = [f"{found[name]:.2f}" if name == "watermark" else f"{found[name]:.0f}" for name in MEASURES]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def write_page(figures: dict[str, str]) -> None:
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    text = TEXT.read_text(encoding="utf-8").format(**figures)
    PAGE.write_text(f"{before}{BEGIN}{text}{END}{rest.split(END)[1]}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument(
        "--stop", type=int, default=160, help=f"the step behind which Stop is pressed, a multiple of {EVERY}"
    )
    parser.add_argument("--clips", type=int, default=16, help="unseen clips that are measured")
    options = parser.parse_args()
    if not shutil.which("chromium"):
        raise SystemExit("This needs the program chromium on the PATH, for pictures of the nodes.")
    # One core for the training, else the browser, which the same machine runs, waits for it in vain.
    os.environ["OMP_NUM_THREADS"] = "1"
    host, run = hosts.host(), hosts.cache_dir() / "training-log"
    shutil.rmtree(run, ignore_errors=True)
    write_folder(run / "input" / "pan", VIDEOS, seed=13)
    write_folder(run / "input" / "pan_held_out", HELD_OUT, seed=14)
    write_rejects(run / "input" / "pan")
    figures = {"steps": f"{options.steps}", "stop": f"{options.stop}", "every": f"{EVERY}"}
    results = run / "models" / "animatediff_motion_lora"
    packs = (hosts.ROOT, hosts.ROOT / "dev" / "live_toyworld")
    with Server(host, run, models=[hosts.toyworld_models(host)], packs=packs) as server:
        figures |= look(server)
        print(figures["summary"], flush=True)
        with front_end(server) as artist:
            figures |= train(artist, results, options.steps, options.stop)
        print(figures, flush=True)
        # what was saved behind the part that was stopped, and behind the whole
        lora = sorted(results.glob("pan_?????_.safetensors"))[-1]
        save(use(server, lora.stem), "used")
    (log,) = results.glob("*_log.csv")
    with log.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    figures["errors"] = ", ".join(f"{float(row['motion_error']):.0f}" for row in rows if row["motion_error"])
    steps = (EVERY, options.stop, options.steps)
    samples = {f"step {step}": frames_of(*results.glob(f"*_step{step:06}.webp")) for step in steps}
    save(rows_of_frames(samples), "samples")
    pack = load_pack(host.path, ["--cpu", "--base-directory", str(run)])
    import kit

    kit.pack[:] = [pack]
    save(curve(rows, options.stop), "curve")
    figures["unseen"] = measure(pack, lora, options.clips)
    print(*figures.items(), sep="\n")
    write_page(figures)


if __name__ == "__main__":
    main()
