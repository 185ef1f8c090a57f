"""Where in the picture things are to be, from frame to frame."""
