"""What the experiments learn from: tables, images and texts, split into parts and served in a recorded order."""
