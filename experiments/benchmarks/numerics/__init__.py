"""How exact the encodings are at far positions."""
