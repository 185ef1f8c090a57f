"""The temporal network, what a call tells it, and its place in the UNet."""
