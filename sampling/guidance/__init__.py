"""Guidance that varies over the run, the frames and the picture."""
