"""Entry points of the data scientist: simulate, ingest, prepare, train."""
