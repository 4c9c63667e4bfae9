"""Search for hyperparameters: many trials at once on the pool, tuned on validation alone."""
