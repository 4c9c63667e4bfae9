"""From raw transactions to a dataset: clean, quarantine, split, index."""
