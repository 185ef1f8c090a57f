"""What goes beside a motion model: image encoders, camera poses, sparse controls."""
