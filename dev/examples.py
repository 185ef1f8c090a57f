"""The example workflows' API forms, and the files that they name."""

import json
import re
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "example_workflows"
NAMES = sorted(path.stem for path in (EXAMPLES / "api").glob("*.json"))
FILE_INPUTS = {
    "ckpt_name": "checkpoints",
    "lora_name": "loras",
    "model_name": "animatediff_models",
    "camera_ctrl": "animatediff_models",
    "control_net_name": "controlnet",
    "name": "animatediff_motion_lora",
}
# What the examples name, as it is called in the toy world.
TOYWORLD = {
    "ckpt_name": "toyworld.safetensors",
    "model_name": "toyworld.safetensors",
    "lora_name": "toyworld-adapter.safetensors",
    "name": "toyworld-right.safetensors",
    "width": 64,
    "height": 64,
}


def api_form(name: str) -> dict:
    return json.loads((EXAMPLES / "api" / f"{name}.json").read_text(encoding="utf-8"))


def pack_of_nodes() -> dict[str, str]:
    """What ComfyUI-Manager writes into the properties of a pack's nodes: its id in the Comfy Registry, and its version.

    Who opens the workflow without the pack is told by them what to install.
    """
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return {
        key: re.search(rf'^{field} = "(.+)"$', pyproject, re.MULTILINE)[1]
        for key, field in (("cnr_id", "name"), ("ver", "version"))
    }


def with_pack_named(workflow: dict) -> dict:
    """The workflow file, with ``pack_of_nodes`` in those nodes that are ours (node_list.json)."""
    ours = json.loads((ROOT / "node_list.json").read_text(encoding="utf-8"))
    nodes = [
        {**node, "properties": {**node["properties"], **pack_of_nodes()}} if node["type"] in ours else node
        for node in workflow["nodes"]
    ]
    return {**workflow, "nodes": nodes}


def in_toyworld(name: str, **changes) -> dict:
    """The prompt with the files of the toy world, and with ``changes`` of inputs wherever they have a value."""
    prompt = api_form(name)
    for node in prompt.values():
        inputs = node["inputs"]
        changed = {key: value for key, value in {**TOYWORLD, **changes}.items() if key in inputs}
        inputs.update({key: value for key, value in changed.items() if not isinstance(inputs[key], list)})  # links stay
    return prompt


def lay_out_files(prompts: Iterable[dict], models: Path, run: Path) -> None:
    """Empty files and folders for all that the prompts name, and pictures, so that the front end offers them."""
    for node in (node for prompt in prompts for node in prompt.values()):
        for name, folder in FILE_INPUTS.items():
            if name in node["inputs"]:
                (models / folder).mkdir(parents=True, exist_ok=True)
                (models / folder / node["inputs"][name]).touch()
        if node["class_type"] == "LoadImage":
            (run / "input").mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (512, 512), "#7a9e9f").save(run / "input" / node["inputs"]["image"])
        if node["class_type"] == "LoadVideo":
            (run / "input").mkdir(parents=True, exist_ok=True)
            (run / "input" / node["inputs"]["file"]).touch()
        if "folder" in node["inputs"]:
            (run / "input" / node["inputs"]["folder"]).mkdir(parents=True, exist_ok=True)
