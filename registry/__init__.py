"""Entry points of the reviewer: compare, refit, review, promote, rollback, history, reconcile."""
