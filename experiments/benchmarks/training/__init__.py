"""Steps of training: ours beside those of transformers on torch, and of encodings beside each other."""
