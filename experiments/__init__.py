"""Experiments on gradient descent and on backpropagation: ``python -m experiments`` says which there are."""
