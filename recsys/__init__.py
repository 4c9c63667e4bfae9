"""Recommenders for retailers: one library behind every entry point."""

__version__ = "0.1.0"
