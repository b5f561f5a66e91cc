"""What a forward and a backward pass cost in operations, seconds and bytes, and what theory predicts."""
