"""Pictures that are laid into a clip while it is sampled."""
