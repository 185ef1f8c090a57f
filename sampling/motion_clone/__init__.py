"""The motion of a reference clip in a clip of other things, without training."""
