"""Scopes: which peers carry the tags of a token, and since when."""
