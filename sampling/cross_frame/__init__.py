"""Frames that look at other frames of the clip in the UNet's own self-attention, without training."""
