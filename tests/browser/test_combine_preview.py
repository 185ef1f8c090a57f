"""AnimateDiff Combine plays what it wrote in the node."""

from __future__ import annotations

import pytest

RUN = """async prompt => {
    await app.loadApiJson(prompt, "combine")
    await app.queuePrompt(0)
}"""
NODE = "app.graph.nodes.find(node => node.type === 'ADE_AnimateDiffCombine')"
# On a canvas, moving pictures lie over it as elements; still ones would be drawn on it, and several are stills.
ON_CANVAS = {
    "picture": f"{NODE}?.animatedImages && {NODE}.imgs?.length === 1 && {NODE}.imgs[0].naturalWidth === 64 && {NODE}.imgs[0].src",
    "video": f"(video => video?.videoWidth === 64 && video.src)({NODE}?.videoContainer?.querySelector('video'))",
}
# Vue nodes are elements. Several pictures would be a grid of stills.
IN_VUE_NODES = {
    "picture": "(all => all.length === 1 && all[0].naturalWidth === 64 && all[0].src)(document.querySelectorAll('[data-node-id] img'))",
    "video": "(video => video?.videoWidth === 64 && video.src)(document.querySelector('[data-node-id] video'))",
}


@pytest.fixture(params=[False, True], ids=["canvas", "Vue nodes"])
def vue_nodes(request, example_server):
    example_server.post("/settings", {"Comfy.VueNodes.Enabled": request.param})
    yield request.param
    example_server.post("/settings", {"Comfy.VueNodes.Enabled": False})


@pytest.mark.parametrize(
    ("format", "kind", "file"),
    [
        ("image/gif", "picture", "AnimateDiff_preview_0000"),  # a WebP in place of the GIF
        ("image/webp", "picture", "preview_0000"),
        ("video/webm", "video", "preview_0000"),
    ],
)
def test_the_node_plays_its_file(vue_nodes, page, format, kind, file):
    combine = {"frame_rate": 8, "loop_count": 0, "filename_prefix": f"{format}/preview", "format": format}
    prompt = {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 4, "color": 255}},
        "2": {
            "class_type": "ADE_AnimateDiffCombine",
            "inputs": {"images": ["1", 0], "pingpong": False, "save_image": True, **combine},
        },
    }
    page.evaluate(RUN, prompt)
    source = page.wait_for_function((IN_VUE_NODES if vue_nodes else ON_CANVAS)[kind]).json_value()
    assert file in source
    assert ("webm" if kind == "video" else "webp") in source
