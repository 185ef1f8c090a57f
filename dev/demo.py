"""Five animations of the toy worlds, end to end, on this machine's CPU: `python -m nox -s demo`.

Starts a real ComfyUI with this pack and samples, from the trained weights in the repository: text to video, the same
with MotionLoRAs, a restyled checkpoint under the same motion module, and - for contrast - the checkpoint without it.
Says where the WebPs, the MP4s and a contact sheet of all of them lie. `-- --plain`: four of plain scenes; `-- --long`: of those
clips of 64 frames, in shared windows with one motion and in static windows.
"""

import argparse
import re
import sys
import time
from dataclasses import replace

import hosts
from PIL import Image, ImageDraw, ImageFont
from server import Server

sys.path.insert(0, str(hosts.ROOT))
from toyworld.prompts import LANDSCAPE_RESTYLED, PAN_LEFT, PERSONALISED, ZOOM_IN, Clip, landscape, node, sampling_prompt

LANDSCAPES = {
    "text to video": landscape("a blue star on sand", 50009),
    "with the MotionLoRA 'zoom in'": landscape("a red star on grass", 50000, loras=(ZOOM_IN,)),
    "with the MotionLoRA 'pan left'": landscape("a purple star on sand", 50003, loras=(PAN_LEFT,)),
    "another checkpoint, the same motion module": landscape(
        "a red square on water", 70005, checkpoint=LANDSCAPE_RESTYLED
    ),
    "without a motion module": landscape("a blue star on sand", 50009, motion=None),
}
PLAIN = {
    "text to video": Clip("a red circle", seed=3),
    "with the MotionLoRA 'right'": Clip("a blue square", seed=5, loras=("toyworld-right",)),
    "another checkpoint, the same motion module": Clip("a yellow triangle", seed=7, checkpoint=PERSONALISED),
    "without a motion module": Clip("a red circle", seed=3, motion=None),
}
LONG = {
    f"{title}: {clip.caption}": replace(clip, windows=windows, frames=64)
    for clip in (Clip("a red circle", seed=3), Clip("a blue square", seed=5), Clip("a yellow triangle", seed=7))
    for title, windows in (("shared windows, one motion", "one motion"), ("static windows", "static"))
}
LARGE = 288  # pixels; the worlds are 64 and 96 wide
WIDTH, GAP = 1280, 8  # of the contact sheets, and between animations side by side
FPS = 8


def prompt(clip: Clip, name: str) -> dict:
    """The sampling prompt of ``clip``, saved as WebP and MP4."""
    nodes = sampling_prompt(clip)
    nodes["large"] = node("ImageScaleBy", image=["decode", 0], upscale_method="bicubic", scale_by=LARGE / clip.size)
    nodes["save"] = node(
        "SaveAnimatedWEBP",
        images=["large", 0],
        filename_prefix=name,
        fps=float(FPS),
        lossless=False,
        quality=90,
        method="default",
    )
    nodes["video"] = node("CreateVideo", images=["large", 0], fps=float(FPS))
    nodes["mp4"] = node("SaveVideo", video=["video", 0], filename_prefix=name, format="mp4", codec="h264")
    return nodes


def contact_sheet(animations: dict[str, Image.Image], shown: int) -> Image.Image:
    """One row for each animation: its title and ``shown`` of its frames."""
    font = ImageFont.load_default(18)
    tile, title = WIDTH // shown, 30
    sheet = Image.new("RGB", (WIDTH, len(animations) * (tile + title)), "white")
    draw = ImageDraw.Draw(sheet)
    for row, (text, animation) in enumerate(animations.items()):
        top = row * (tile + title)
        draw.text((6, top + 5), text, "black", font)
        for column in range(shown):
            animation.seek(column * (animation.n_frames - 1) // (shown - 1))
            sheet.paste(animation.convert("RGB").resize((tile, tile)), (column * tile, top + title))
    return sheet


def side_by_side(animations: dict[str, Image.Image]) -> list[Image.Image]:
    """The animations in one moving picture: its frames."""
    tile = (WIDTH + GAP) // len(animations) - GAP
    frames = []
    for i in range(min(animation.n_frames for animation in animations.values())):
        frames.append(frame := Image.new("RGB", (WIDTH, tile), "white"))
        for column, animation in enumerate(animations.values()):
            animation.seek(i)
            frame.paste(animation.convert("RGB").resize((tile, tile)), (column * (tile + GAP), 0))
    return frames


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    other = parser.add_mutually_exclusive_group()
    other.add_argument("--long", action="store_const", const=(LONG, 16), dest="what")
    other.add_argument("--plain", action="store_const", const=(PLAIN, 8), dest="what")
    animations, shown = parser.parse_args().what or (LANDSCAPES, 8)
    host = hosts.host()
    models = hosts.toyworld_models(host)
    print(f"Starting ComfyUI {host.version}", flush=True)
    with Server(host, hosts.cache_dir() / "demo", models=[models]) as server:
        start = time.monotonic()
        made = {}
        for i, (title, clip) in enumerate(animations.items(), 1):
            files = server.outputs(
                server.queue(prompt(clip, f"{i}-{re.sub('[^a-z]+', '-', title.lower()).strip('-')}"))
            )
            print(f"{title}: '{clip.caption}'", *files, sep="\n  ", flush=True)
            (made[title],) = (Image.open(file) for file in files if file.suffix == ".webp")
        print(f"Sampled in {time.monotonic() - start:.0f} s")
    sheet = hosts.cache_dir() / "demo" / "output" / "contact-sheet.png"
    contact_sheet(made, shown).save(sheet)
    moving, *others = side_by_side(made)
    moving.save(
        sheet.with_suffix(".webp"), save_all=True, append_images=others, duration=1000 // FPS, loop=0, quality=80
    )
    print(f"All of them: {sheet}, and moving: {sheet.with_suffix('.webp')}")


if __name__ == "__main__":
    main()
