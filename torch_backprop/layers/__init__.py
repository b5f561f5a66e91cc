"""The derivations: a topic a file, Function, functional, Module and SPECS together."""
