"""A run: its configuration, its folder, its training and what it gave."""
