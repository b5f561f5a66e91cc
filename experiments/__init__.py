"""Experiments on gradient descent: ``python -m experiments`` says which there are."""
