"""Time and memory of the layers, or the time of the optimizers, as ratios to what PyTorch has."""
