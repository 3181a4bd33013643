"""A run: configuration, folder, training and results."""
