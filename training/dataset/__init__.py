"""From a folder of videos to what training takes: clips as latents, captions as conditionings."""
