"""AnimateDiff Combine plays what it wrote in the node."""

from __future__ import annotations

import pytest

RUN = """async prompt => {
    await app.loadApiJson(prompt, "combine")
    await app.queuePrompt(0)
}"""
NODE = "app.graph.nodes.find(node => node.type === 'ADE_AnimateDiffCombine')"
# Moving pictures lie over the canvas as elements; still ones would be drawn on it.
PICTURE_PLAYS = f"{NODE}?.animatedImages && {NODE}.imgs?.[0]?.naturalWidth === 64 && {NODE}.imgs[0].src"
VIDEO_PLAYS = f"{NODE}?.videoContainer?.querySelector('video')?.videoWidth === 64 && {NODE}.videoContainer.querySelector('video').src"


@pytest.mark.parametrize(
    ("format", "plays", "file"),
    [
        ("image/gif", PICTURE_PLAYS, "preview_00001_.gif"),
        ("image/webp", PICTURE_PLAYS, "preview_00001_.webp"),
        ("video/webm", VIDEO_PLAYS, "preview_00001_.webm"),
    ],
)
def test_the_node_plays_its_file(page, example_server, format, plays, file):
    combine = {"frame_rate": 8, "loop_count": 0, "filename_prefix": f"{format}/preview", "format": format}
    prompt = {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 4, "color": 255}},
        "2": {
            "class_type": "ADE_AnimateDiffCombine",
            "inputs": {"images": ["1", 0], "pingpong": False, "save_image": True, **combine},
        },
    }
    page.evaluate(RUN, prompt)
    source = page.wait_for_function(plays, timeout=60_000)
    assert file in source.json_value()
