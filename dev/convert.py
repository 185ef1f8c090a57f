"""Convert motion models and MotionLoRAs between AnimateDiff's names and diffusers'.

    python dev/convert.py v3_sd15_mm.ckpt v3_for_diffusers --to diffusers
    python dev/convert.py v3_for_diffusers/diffusion_pytorch_model.safetensors v3.safetensors --to AnimateDiff
    python dev/convert.py zoom-in.safetensors zoom-in-diffusers.safetensors --to diffusers

What is read is whatever the nodes read, so the first of these takes a file of any published layout. A motion model becomes
a folder for diffusers' MotionAdapter.from_pretrained, or one file; a MotionLoRA a file for load_lora_weights, or one in the
names of the published ones. Numbers stay as they are, and nothing is overwritten. COMFYUI_PATH may name your ComfyUI.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import hosts
from pack import load_pack

FORMATS = ("AnimateDiff", "diffusers")


def convert(pack, source: str, target: str, to: str) -> str:
    """Returns in words what was written. Raises what reading and saving raise, with messages for users."""
    reading = pack.submodule("motion_models.files.reading")
    wrong_files = pack.submodule("motion_models.files.wrong_files")
    tensors, _ = reading.read_tensors(source)
    dtype = most_common_dtype(tensors)
    if wrong_files.is_motion_lora(tensors):
        motion_lora = pack.submodule("lora.motion_lora")
        lora = motion_lora.read_motion_lora(source)
        motion_lora.save_motion_lora(lora, target, dtype=dtype, layout=to)
        return f"MotionLoRA of rank {lora.rank}, {len(lora.pairs)} layers"
    del tensors
    motion_model = pack.submodule("motion_models.files.motion_model").load_motion_model(source)
    if to == "diffusers":
        pack.submodule("motion_models.files.diffusers_folder").save_motion_adapter(motion_model, target, dtype=dtype)
    else:
        pack.submodule("motion_models.files.saving").save_motion_model(motion_model, target, dtype=dtype)
    return str(motion_model.model.spec)


def most_common_dtype(tensors: dict):
    """That of most tensors: position tables are often float32 beside float16 weights. Of float8 weights it is float16."""
    import torch  # known once ComfyUI is

    dtypes = [value.dtype for value in tensors.values() if value.is_floating_point() and value.element_size() > 1]
    return max(set(dtypes), key=dtypes.count, default=torch.float16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="a file of a motion model or of a MotionLoRA")
    parser.add_argument("target", help="the new file; of a motion model for diffusers, the new folder")
    parser.add_argument("--to", choices=FORMATS, required=True)
    arguments = parser.parse_args()
    # as float32, whatever the host would sample in: what is written is what was read
    pack = load_pack(hosts.host().path, ["--cpu", "--force-fp32"])
    source, target = (str(Path(path).expanduser().resolve()) for path in (arguments.source, arguments.target))
    try:
        print(convert(pack, source, target, arguments.to))
    except (ValueError, OSError, RuntimeError) as error:
        sys.exit(f"{error}")
    print(f"Saved {target}")


if __name__ == "__main__":
    main()
