"""How attention's memory grows with the length."""
