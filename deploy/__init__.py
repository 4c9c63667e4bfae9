"""Entry points of the scheduler, and the whole flow in one command."""
