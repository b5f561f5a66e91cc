"""One pass of backpropagation, layer by layer."""
