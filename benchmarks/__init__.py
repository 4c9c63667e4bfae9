"""Measurements: speed, parity with other libraries, how often a decision is wrong."""
