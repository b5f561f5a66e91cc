"""Experiments on gradient descent with real data: ``python -m experiments NAME``."""
