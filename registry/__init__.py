"""Entry points of the reviewer: compare, promote."""
