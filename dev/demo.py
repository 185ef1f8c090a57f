"""Four animations of the toy world, end to end, on this machine's CPU: `python -m nox -s demo`.

Starts a real ComfyUI with this pack and samples, from the trained weights in the repository: text to video, the same
with a MotionLoRA, a restyled checkpoint under the same motion module, and - for contrast - the checkpoint without it.
Says where the WebPs, the MP4s and a contact sheet of all four lie.
"""

import re
import sys
import time

import hosts
from PIL import Image, ImageDraw, ImageFont
from server import Server

sys.path.insert(0, str(hosts.ROOT))
from toyworld.prompts import PERSONALISED, Clip, node, sampling_prompt

ANIMATIONS = {
    "text to video": Clip("a red circle", seed=3),
    "with the MotionLoRA 'right'": Clip("a blue square", seed=5, loras=("toyworld-right",)),
    "another checkpoint, the same motion module": Clip("a yellow triangle", seed=7, checkpoint=PERSONALISED),
    "without a motion module": Clip("a red circle", seed=3, motion=None),
}
ZOOM = 4  # the toy world is 64 pixels wide
SHOWN = 8  # frames of each animation on the contact sheet


def prompt(clip: Clip, name: str) -> dict:
    """The sampling prompt of ``clip``, saved as WebP and MP4."""
    nodes = sampling_prompt(clip)
    nodes["large"] = node("ImageScaleBy", image=["decode", 0], upscale_method="bicubic", scale_by=float(ZOOM))
    nodes["save"] = node(
        "SaveAnimatedWEBP",
        images=["large", 0],
        filename_prefix=name,
        fps=8.0,
        lossless=False,
        quality=90,
        method="default",
    )
    nodes["video"] = node("CreateVideo", images=["large", 0], fps=8.0)
    nodes["mp4"] = node("SaveVideo", video=["video", 0], filename_prefix=name, format="mp4", codec="h264")
    return nodes


def contact_sheet(animations: dict[str, Image.Image]) -> Image.Image:
    """One row for each animation: its title and ``SHOWN`` of its frames."""
    font = ImageFont.load_default(18)
    tile, title = 160, 30
    sheet = Image.new("RGB", (SHOWN * tile, len(animations) * (tile + title)), "white")
    draw = ImageDraw.Draw(sheet)
    for row, (text, animation) in enumerate(animations.items()):
        top = row * (tile + title)
        draw.text((6, top + 5), text, "black", font)
        for column in range(SHOWN):
            animation.seek(column * (animation.n_frames - 1) // (SHOWN - 1))
            sheet.paste(animation.convert("RGB").resize((tile, tile)), (column * tile, top + title))
    return sheet


def main() -> None:
    host = hosts.host()
    models = hosts.toyworld_models(host)
    print(f"Starting ComfyUI {host.version}", flush=True)
    with Server(host, hosts.cache_dir() / "demo", models=[models]) as server:
        start = time.monotonic()
        made = {}
        for i, (title, clip) in enumerate(ANIMATIONS.items(), 1):
            files = server.outputs(
                server.queue(prompt(clip, f"{i}-{re.sub('[^a-z]+', '-', title.lower()).strip('-')}"))
            )
            print(f"{title}: '{clip.caption}'", *files, sep="\n  ", flush=True)
            (made[title],) = (Image.open(file) for file in files if file.suffix == ".webp")
        print(f"Sampled in {time.monotonic() - start:.0f} s")
    sheet = hosts.cache_dir() / "demo" / "output" / "contact-sheet.png"
    contact_sheet(made).save(sheet)
    print(f"All four: {sheet}")


if __name__ == "__main__":
    main()
