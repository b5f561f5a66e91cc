"""Recurrent layers and cells: backpropagation through time by hand."""
