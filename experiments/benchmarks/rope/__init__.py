"""How long the rotation alone takes."""
