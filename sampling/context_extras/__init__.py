"""What acts besides context windows: it ties the windows of a clip together, so that they show one and the same thing."""
