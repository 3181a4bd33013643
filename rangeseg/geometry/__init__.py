"""NumPy and numba: points to range images and back. No torch below this line."""
