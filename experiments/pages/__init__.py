"""What writes the pages of `docs/encodings`: words from docstrings, pictures from values, tests from their marks."""
