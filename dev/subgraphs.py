"""Make the subgraph blueprints from the example workflows: `python dev/subgraphs.py`.

A blueprint (subgraphs/TITLE.json, which ComfyUI serves) is one box that users find among the nodes: an example's nodes without
its note and its Save nodes, with the inputs that matter on the box. What the left-out nodes gave becomes an input of the box.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from pathlib import Path

import layout

from examples import ROOT, api_form, pack_of_nodes, workflow_file

FOLDER = ROOT / "subgraphs"
SPACE = uuid.UUID("5b1ad2f4-2f0f-4f64-9a3f-7d5b7f0c8e21")  # ids come from names, and stay
INPUT, OUTPUT = -10, -20  # the front end's ids of a subgraph's own two nodes
FILES = (("checkpoint", "ckpt_name", "checkpoint"), ("motion_model", "model_name", "motion model"))
PROMPTS = (("positive", "text", "prompt"), ("negative", "text", "negative prompt"))
SIZE = (("frames", "width", "width"), ("frames", "height", "height"), ("frames", "batch_size", "frames"))
SAMPLING = (("sampler", "seed", "seed"), ("sampler", "steps", "steps"), ("sampler", "cfg", "cfg"))
FRAME_RATE = ("video", "fps", "fps")
CLIP = (("decode", 0), ("video", 0))


@dataclass(frozen=True)
class Blueprint:
    """``shown``: (node, input, label) of the widgets on the box; ``outputs``: (node, slot). Nodes by their names in the API form."""

    template: str
    description: str
    shown: tuple[tuple[str, str, str], ...]
    outputs: tuple[tuple[str, int], ...]
    left_out: tuple[str, ...] = ("webp", "mp4")


BLUEPRINTS = {
    "AnimateDiff Text to Video": Blueprint(
        "txt2vid",
        "A prompt becomes a clip: checkpoint, motion model, sampling and video in one box.",
        (*PROMPTS, *FILES, *SIZE, *SAMPLING, FRAME_RATE),
        CLIP,
    ),
    "AnimateDiff Image to Video": Blueprint(
        "image_to_video",
        "A picture begins to move, in eight steps of AnimateLCM-I2V.",
        (*PROMPTS, *FILES, ("lora", "lora_name", "LCM LoRA"), *SIZE, *SAMPLING, FRAME_RATE),
        CLIP,
        ("picture", "webp", "mp4"),
    ),
    "AnimateDiff Long Video": Blueprint(
        "prompt_travel",
        "A clip of any length with one motion, whose prompt changes on the way.",
        (("positive", "prompts", "prompts"), PROMPTS[1], *FILES, *SIZE, ("windows", "one_motion", "one motion"), *SAMPLING, FRAME_RATE),
        CLIP,
    ),
    "AnimateDiff Video to Video": Blueprint(
        "video_to_video",
        "A video in another style: its edges guide the clip by ControlNet, its colours are where sampling starts.",
        (
            *PROMPTS,
            *FILES,
            ("control_net", "control_net_name", "ControlNet"),
            ("resized", "width", "width"),
            ("resized", "height", "height"),
            ("frames", "length", "frames"),
            ("guided", "strength", "strength of edges"),
            *SAMPLING,
            ("sampler", "denoise", "denoise"),
        ),
        (("decode", 0), ("new_video", 0)),
        ("video", "edges_preview", "webp", "mp4"),
    ),
    "AnimateDiff Train a MotionLoRA": Blueprint(
        "train_from_video_folder",
        "A folder of videos becomes a MotionLoRA, which is saved and can be used at once.",
        (
            ("clips", "folder", "folder of videos"),
            *FILES,
            ("train", "steps", "steps"),
            ("train", "learning_rate", "learning rate"),
            ("train", "rank", "rank"),
            ("train", "seed", "seed"),
            ("save", "filename_prefix", "saved as"),
        ),
        (("train", 0), ("train", 1)),
        ("sheet", "loss"),
    ),
}  # fmt: skip


def identifier(*names: str) -> str:
    return str(uuid.uuid5(SPACE, "/".join(names)))


class Box:
    """A blueprint in the making: its nodes, its links, its inputs and outputs."""

    def __init__(self, title: str, blueprint: Blueprint):
        self.title, self.blueprint = title, blueprint
        stored = json.loads(workflow_file(blueprint.template).read_text(encoding="utf-8"))
        numbers = {name: i for i, name in enumerate(api_form(blueprint.template), 1)}
        self.numbers = {name: i for name, i in numbers.items() if name not in blueprint.left_out}
        kept = set(self.numbers.values())
        self.nodes = {node["id"]: node for node in stored["nodes"] if node["id"] in kept}
        self.groups = stored["groups"]
        self.links = [link for link in stored["links"] if link[1] in kept and link[3] in kept]
        self.cut = [link for link in stored["links"] if link[1] not in kept and link[3] in kept]
        self.last_link = stored["last_link_id"]
        staying = {link[0] for link in self.links}
        for node in self.nodes.values():
            for output in node["outputs"]:
                output["links"] = [link for link in output.get("links") or [] if link in staying]
        self.inputs: list[dict] = []
        self.outputs: list[dict] = []
        self.on_box: list[dict] = []
        self.values: list = []

    def link(self, origin: tuple[int, int], target: tuple[int, int], kind: str) -> int:
        self.last_link += 1
        self.links.append([self.last_link, *origin, *target, kind])
        return self.last_link

    def add_input(self, node: dict, slot: int, label: str) -> dict:
        """From outside into an input of a node inside; returns what the box itself has of it."""
        socket = node["inputs"][slot]
        name, kind = label.replace(" ", "_"), socket["type"]
        socket["link"] = self.link((INPUT, len(self.inputs)), (node["id"], slot), kind)
        self.inputs.append(
            {
                "id": identifier(self.title, name),
                "name": name,
                "type": kind,
                "linkIds": [socket["link"]],
                "label": label,
            }
        )
        self.on_box.append({"name": name, "label": label, "type": kind, "link": None})
        return self.on_box[-1]

    def add_cut_links(self) -> None:
        for _, _, _, target, slot, _ in self.cut:
            node = self.nodes[target]
            self.add_input(node, slot, {"pixels": "image"}.get(name := node["inputs"][slot]["name"], name))

    def add_widgets(self) -> None:
        for name, input, label in self.blueprint.shown:
            node = self.nodes[self.numbers[name]]
            slot = next(i for i, socket in enumerate(node["inputs"]) if socket["name"] == input)
            on_box = self.add_input(node, slot, label)
            on_box["widget"] = {"name": on_box["name"]}
            self.values.append(api_form(self.blueprint.template)[name]["inputs"][input])

    def add_outputs(self) -> None:
        for name, slot in self.blueprint.outputs:
            node = self.nodes[self.numbers[name]]
            socket = node["outputs"][slot]
            link = self.link((node["id"], slot), (OUTPUT, len(self.outputs)), socket["type"])
            socket["links"].append(link)
            made = {"id": identifier(self.title, "out", socket["name"]), "name": socket["name"], "type": socket["type"]}
            self.outputs.append({**made, "linkIds": [link]})

    def subgraph(self) -> dict:
        boxes = layout.boxes(self.nodes.values()).values()
        left, right = min(box[0] for box in boxes), max(box[0] + box[2] for box in boxes)
        groups = [group for group in self.groups if any(layout.overlap(box, group["bounding"]) for box in boxes)]
        names = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
        return {
            "id": identifier(self.title),
            "version": 1,
            "state": {
                "lastGroupId": len(self.groups),
                "lastNodeId": max(self.nodes),
                "lastLinkId": self.last_link,
                "lastRerouteId": 0,
            },
            "revision": 0,
            "config": {},
            "name": self.title,
            "inputNode": {"id": INPUT, "bounding": [left - 260, 0, 160, 40 + 20 * len(self.inputs)]},
            "outputNode": {"id": OUTPUT, "bounding": [right + 100, 0, 120, 40 + 20 * len(self.outputs)]},
            "inputs": self.inputs,
            "outputs": self.outputs,
            "widgets": [],
            "nodes": list(self.nodes.values()),
            "groups": groups,
            "links": [dict(zip(names, link, strict=True)) for link in self.links],
            "extra": {},
            "category": "AnimateDiff",
            "description": self.blueprint.description,
        }

    def stored(self) -> dict:
        self.add_cut_links()
        self.add_widgets()
        self.add_outputs()
        on_box = {
            "id": 1,
            "type": identifier(self.title),
            "pos": [0, 0],
            "size": [400, 60 + 26 * (len(self.on_box) + len(self.outputs))],
            "flags": {},
            "order": 0,
            "mode": 0,
            "inputs": self.on_box,
            "outputs": [{"name": output["name"], "type": output["type"], "links": []} for output in self.outputs],
            "title": self.title,
            "properties": {
                "proxyWidgets": [["-1", socket["name"]] for socket in self.on_box if "widget" in socket],
                **pack_of_nodes(),
            },
            "widgets_values": self.values,
        }
        return {
            "id": identifier(self.title, "file"),
            "revision": 0,
            "last_node_id": 1,
            "last_link_id": 0,
            "nodes": [on_box],
            "links": [],
            "groups": [],
            "definitions": {"subgraphs": [self.subgraph()]},
            "config": {},
            "extra": {"BlueprintDescription": self.blueprint.description},
            "version": 0.4,
        }


def made(title: str) -> str:
    """The file of a blueprint, as it follows from the example workflow now."""
    return json.dumps(Box(title, BLUEPRINTS[title]).stored(), indent=1, ensure_ascii=False) + "\n"


def file_of(title: str) -> Path:
    return FOLDER / f"{title}.json"


def main() -> None:
    for title in BLUEPRINTS:
        file_of(title).write_text(made(title), encoding="utf-8")
        print(file_of(title))


if __name__ == "__main__":
    main()
