"""Training motion modules, MotionLoRAs and domain adapters: clips, objectives, the loop, what is trained."""
