"""How fast attention is on a GPU, beside its peers; of posjax's libraries jax alone is needed."""
