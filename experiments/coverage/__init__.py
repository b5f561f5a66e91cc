"""What each layer can do, and what it holds in memory."""
