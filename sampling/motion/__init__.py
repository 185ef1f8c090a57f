"""Motion models in a run: how the user wants them applied, and what each UNet call is told."""
