"""Where the nodes of an example workflow stand: stages from left to right, each in a group with a title.

Lengths are those of ComfyUI's canvas. A node's title bar lies above its position.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

Box = tuple[float, float, float, float]  # left, top, width, height

TITLE = 30  # of a node
GROUP_TITLE = 44
PADDING = 20
BETWEEN = 40  # free space between nodes, of which Vue nodes take some for the name of the pack
BETWEEN_GROUPS = 40
TALLEST = 640  # a group that would be taller has more columns
COLOUR = "#3f789e"
# From left to right; the stages of one tuple stand below each other.
COLUMNS = (
    ("Note",),
    ("Files", "Picture or video", "Clips"),
    ("AnimateDiff", "Prompts"),
    ("Training",),
    ("Sampling",),
    ("Result",),
)
STAGES = {
    "Files": (
        "CheckpointLoaderSimple",
        "LoraLoaderModelOnly",
        "ControlNetLoader",
        "ADE_LoadAnimateDiffModel",
        "ADE_LoadAnimateDiffModelWithCameraCtrl",
        "ADE_LoadAnimateLCMI2VModel",
        "ADE_AnimateDiffLoRALoader",
        "AnimateDiffLoadSparseCtrl",
        "AnimateDiffLoadDomainAdapter",
    ),
    "Picture or video": (
        "LoadImage", "LoadVideo", "GetVideoComponents", "ImageFromBatch", "ImageScale", "VAEEncode", "Canny",
    ),
    "Clips": ("LoadVideoTextDataSetFromFolder", "VideoFrameSample", "AnimateDiffVideoFolderToClips"),
    "Prompts": (
        "PrimitiveStringMultiline", "CLIPTextEncode", "EmptyLatentImage", "ADE_PromptSchedulingLatents", "AnimateDiffPromptScheduling",
        "ControlNetApplyAdvanced", "AnimateDiffApplySparseCtrl",
    ),
    "Training": (
        "AnimateDiffTrainMotionLoRA",
        "AnimateDiffTrainDomainAdapter",
        "AnimateDiffTrainMotionModule",
        "AnimateDiffTrainingOptions",
        "AnimateDiffTrainingCheckpoints",
        "AnimateDiffTrainingValidation",
    ),
    "Sampling": ("KSampler", "VAEDecode", "AnimateDiffInBetweenFrames"),
    "Result": (
        "SaveAnimatedWEBP", "CreateVideo", "SaveVideo", "PreviewImage", "PreviewAny", "LossGraphNode", "AnimateDiffMetrics",
        "AnimateDiffDrawMotionPath",
        "AnimateDiffSaveMotionLoRA", "AnimateDiffSaveDomainAdapter", "AnimateDiffSaveMotionModel",
    ),
    "Note": ("MarkdownNote",),
}  # fmt: skip
STAGE_OF = {kind: stage for stage, kinds in STAGES.items() for kind in kinds}


@dataclass(frozen=True)
class Group:
    title: str
    box: Box


def stages(prompt: Mapping[str, dict]) -> dict[str, list[str]]:
    """The nodes of an API form by stage, in the order of the form. What follows a training stands behind it."""
    sorted_in: dict[str, list[str]] = {stage: [] for column in COLUMNS for stage in column}
    kinds = {name: node["class_type"] for name, node in prompt.items()}
    trains = "AnimateDiffVideoFolderToClips" in kinds.values() or "VideoFrameSample" in kinds.values()
    after: set[str] = set()
    for name, node in prompt.items():
        stage = STAGE_OF.get(kinds[name], "AnimateDiff")
        from_nodes = {value[0] for value in node["inputs"].values() if isinstance(value, list)}
        if stage == "Training" or from_nodes & after:
            after.add(name)
            stage = "Sampling" if stage == "AnimateDiff" else stage
        if trains and stage == "Picture or video":
            stage = "Clips"
        sorted_in[stage].append(name)
    return {stage: names for stage, names in sorted_in.items() if names}


def columns_of(names: Iterable[str], sizes: Mapping[str, tuple[float, float]]) -> list[list[str]]:
    """Cut into columns no taller than TALLEST, as even as they get."""
    names = list(names)
    heights = {name: sizes[name][1] + TITLE + BETWEEN for name in names}
    count = -(-sum(heights.values()) // TALLEST)
    limit, columns, used = sum(heights.values()) / count, [[]], 0.0
    for name in names:
        if columns[-1] and len(columns) < count and used + heights[name] / 2 > limit:
            columns.append([])
            used = 0.0
        columns[-1].append(name)
        used += heights[name]
    return columns


def lay_out(
    stage_nodes: Mapping[str, list[str]], sizes: Mapping[str, tuple[float, float]]
) -> tuple[dict[str, tuple[float, float]], list[Group]]:
    """Positions of the nodes, whose (width, height) are ``sizes``, and the groups around them."""
    places: dict[str, tuple[float, float]] = {}
    groups: list[Group] = []
    left = 0.0
    for column in COLUMNS:
        top, right = 0.0, left
        for stage in (stage for stage in column if stage in stage_nodes):
            x, bottom = left + PADDING, top
            for names in columns_of(stage_nodes[stage], sizes):
                y = top + GROUP_TITLE
                for name in names:
                    places[name] = (x, y + TITLE)
                    y += TITLE + sizes[name][1] + BETWEEN
                x += max(sizes[name][0] for name in names) + BETWEEN
                bottom = max(bottom, y - BETWEEN + PADDING)
            groups.append(Group(stage, (left, top, x - BETWEEN + PADDING - left, bottom - top)))
            top, right = bottom + BETWEEN_GROUPS, max(right, x - BETWEEN + PADDING)
        left = right + BETWEEN_GROUPS if right > left else left
    return places, groups


def as_stored(groups: Iterable[Group]) -> list[dict]:
    return [
        {"id": i, "title": group.title, "bounding": list(group.box), "color": COLOUR, "flags": {}}
        for i, group in enumerate(groups, 1)
    ]


def boxes(nodes: Iterable[dict]) -> dict[int, Box]:
    """The places that the nodes of a workflow file take, with their titles."""
    return {
        node["id"]: (node["pos"][0], node["pos"][1] - TITLE, node["size"][0], node["size"][1] + TITLE) for node in nodes
    }


def overlap(a: Box, b: Box, room: float = 0) -> bool:
    """Whether two boxes overlap, or have less ``room`` between them."""
    return all(a[i] < b[i] + b[i + 2] + room and b[i] < a[i] + a[i + 2] + room for i in (0, 1))
