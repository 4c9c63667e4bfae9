"""What is timed: one module a library, each started as a process of its own."""
