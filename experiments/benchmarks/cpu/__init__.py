"""How long attention takes on a CPU with each encoding, beside its peers."""
