"""MotionLoRAs and domain adapters: file formats, application, saving."""
