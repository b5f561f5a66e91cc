"""A training step exported to a file, which trains in a process without this package."""
