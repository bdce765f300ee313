"""Published checkpoints: their files, their tensors under their names, and what a configuration says."""
