"""What a whole model costs: generation a token at a time, and the compilation and memory of a training step."""
