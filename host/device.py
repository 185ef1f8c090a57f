"""Where the host computes."""

import comfy.model_management
import torch


def training_device() -> torch.device:
    return comfy.model_management.get_torch_device()
