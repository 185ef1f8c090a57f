"""Motion modules: file formats -> specification -> network, and their injection into a UNet."""
