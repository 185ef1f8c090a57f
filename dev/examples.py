"""The example workflows: their API forms, what they are called, their notes, and the files that they name.

`example_workflows/api/NAME.json` is the prompt; `dev/templates/NAME.md` has the title (its number is the place in the list) and
the note. The front end shows the name of a workflow file as its title, so the file is called by it.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "example_workflows"
NOTES = ROOT / "dev" / "templates"
NAMES = sorted(path.stem for path in (EXAMPLES / "api").glob("*.json"))
FILE_INPUTS = {
    "ckpt_name": "checkpoints",
    "lora_name": "loras",
    "model_name": "animatediff_models",
    "camera_ctrl": "animatediff_models",
    "control_net_name": "controlnet",
    "name": "animatediff_motion_lora",
}
HUGGING_FACE = "https://huggingface.co/{}/resolve/main/{}"
# Where the files that the examples name are published.
REPOSITORIES = {
    "Comfy-Org/stable-diffusion-v1-5-archive": ["v1-5-pruned-emaonly-fp16.safetensors"],
    "stabilityai/stable-diffusion-xl-base-1.0": ["sd_xl_base_1.0.safetensors"],
    "guoyww/animatediff": [
        "mm_sd_v14.ckpt",
        "mm_sd_v15_v2.ckpt",
        "v2_lora_PanRight.ckpt",
        "v3_sd15_adapter.ckpt",
        "v3_sd15_mm.ckpt",
        "v3_sd15_sparsectrl_rgb.ckpt",
    ],
    "wangfuyun/AnimateLCM": ["AnimateLCM_sd15_t2v.ckpt", "AnimateLCM_sd15_t2v_lora.safetensors"],
    "wangfuyun/AnimateLCM-I2V": ["AnimateLCM_sd15_i2v.ckpt"],
    "hotshotco/Hotshot-XL": ["hsxl_temporal_layers.f16.safetensors"],
    "Leoxing/PIA": ["pia.ckpt"],
    "Kosinkadink/CameraCtrl": ["CameraCtrl_pruned.safetensors"],
    "manshoety/AD_Stabilized_Motion": ["mm-Stabilized_mid.pth"],
    "comfyanonymous/ControlNet-v1-1_fp16_safetensors": ["control_v11p_sd15_canny_fp16.safetensors"],
}
ADDRESSES = {file: HUGGING_FACE.format(where, file) for where, files in REPOSITORIES.items() for file in files}
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


def title(name: str) -> str:
    """Such as "AnimateDiff 01 Text to Video": the front end's search looks at titles only."""
    heading = (NOTES / f"{name}.md").read_text(encoding="utf-8").partition("\n")[0]
    return f"AnimateDiff {heading.removeprefix('# ')}"


def workflow_file(name: str) -> Path:
    return EXAMPLES / f"{title(name)}.json"


def models_of(node: dict) -> list[dict[str, str]]:
    """The published files that a node of an API form loads, as the front end reads them from a node's `properties.models`."""
    named = [(value, FILE_INPUTS[input]) for input, value in node["inputs"].items() if input in FILE_INPUTS]
    return [{"name": file, "url": ADDRESSES[file], "directory": folder} for file, folder in named if file in ADDRESSES]


def note(name: str) -> str:
    """The text of the example's note, with its files and where they go. Bold, not `code`: that is blue on blue in Vue nodes."""
    heading, text = (NOTES / f"{name}.md").read_text(encoding="utf-8").split("\n", 1)
    models = {model["name"]: model for node in api_form(name).values() for model in models_of(node)}
    lines = [f"- [{file}]({model['url']}) into **models/{model['directory']}**" for file, model in models.items()]
    files = "\n".join(["**Files** (then press **R** to refresh the lists)", "", *lines])
    text = text.replace("{files}\n\n-", "{files}\n\n**Good to know**\n\n-").replace("{files}", files)
    return f"## {re.sub(r'^# [0-9]+ ', '', heading)}\n{text}"


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
