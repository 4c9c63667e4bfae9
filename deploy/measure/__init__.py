"""What campaigns did: from published recommendations and later purchases to effects, reported."""
