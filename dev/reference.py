"""What tests compare with: tests/reference, described in its README.

A missing file is an error of whoever asks: no comparison may pass, or be skipped, because there is nothing to compare with.
Only the standard library is needed.
"""

from __future__ import annotations

import json
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "tests" / "reference"
LATENTS = FOLDER / "latents.safetensors"


def prompt_names() -> list[str]:
    """The reference prompts; `latents.safetensors` has one latent for each."""
    return sorted(path.stem for path in (FOLDER / "prompts").iterdir())


def prompt(name: str) -> dict:
    """An API prompt on the random weights."""
    return read(f"prompts/{name}.json")


def interface() -> dict[str, dict]:
    """The incumbent's nodes by id: inputs as `name: [type, settings]`, and outputs."""
    return read("interface.json")


def stored_nodes() -> list[dict]:
    """Nodes as public workflow files hold them, and the values that the front end gives their widgets."""
    return read("stored_nodes.json")


def weight_checksums() -> dict[str, str]:
    """SHA-256 of each file of random weights that the latents depend on."""
    lines = (FOLDER / "weights.sha256").read_text(encoding="utf-8").splitlines()
    return {name: checksum for checksum, name in map(str.split, lines)}


def read(name: str):
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))
