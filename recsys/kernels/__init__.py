"""One task's work, compiled or vectorised: no Spark in here."""
