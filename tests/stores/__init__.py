"""Stores, tested against server processes of their kind."""
