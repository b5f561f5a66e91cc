"""The three variants' ways over the contours of one cost, seen from above."""
