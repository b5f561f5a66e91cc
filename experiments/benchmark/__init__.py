"""Time and memory of the layers, or the time of optimizers or of single examples, beside PyTorch's."""
