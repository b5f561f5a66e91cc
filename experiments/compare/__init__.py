"""Batch, stochastic and mini-batch gradient descent against each other, all else held equal."""
