"""Metrics per customer, then means with intervals."""
