"""Ingest as a stream: files that arrive in a landing folder are taken once, and tables follow.

    landing folder ─▶ Structured Streaming ─▶ taking ─▶ rows/<id>, _commits ─▶ publishing ─▶ tables
                      (which files are new)   (each file once)                (as batch ingest does)

What was taken stands in the commits of the state folder, by the files' content. Spark's checkpoint
only spares listing again what it has listed: without it, every file is found taken and passed over.
"""
