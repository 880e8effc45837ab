"""Searching sealed records by what was said in them, without plaintext at rest."""
