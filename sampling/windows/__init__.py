"""Clips longer than the motion model can handle: cutting them into windows and blending the predictions."""
