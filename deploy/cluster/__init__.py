"""The pool of machines: how it is made, how it grows, and what runs on a node."""
