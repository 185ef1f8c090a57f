"""The example workflows' API forms, and the files that they name."""

import json
from collections.abc import Iterable
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parent.parent / "example_workflows"
NAMES = sorted(path.stem for path in (EXAMPLES / "api").glob("*.json"))
FILE_INPUTS = {
    "ckpt_name": "checkpoints",
    "lora_name": "loras",
    "model_name": "animatediff_models",
    "name": "animatediff_motion_lora",
}


def api_form(name: str) -> dict:
    return json.loads((EXAMPLES / "api" / f"{name}.json").read_text(encoding="utf-8"))


def lay_out_files(prompts: Iterable[dict], models: Path, run: Path) -> None:
    """Empty files and folders for all that the prompts name, so that the front end offers them."""
    for node in (node for prompt in prompts for node in prompt.values()):
        for name, folder in FILE_INPUTS.items():
            if name in node["inputs"]:
                (models / folder).mkdir(parents=True, exist_ok=True)
                (models / folder / node["inputs"][name]).touch()
        if "folder" in node["inputs"]:
            (run / "input" / node["inputs"]["folder"]).mkdir(parents=True, exist_ok=True)
