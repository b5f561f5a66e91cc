"""What the experiments learn from: tables, images and texts, in parts and in a recorded order."""
