"""Motion model files: reading, naming, checking, adjusting, saving."""
