"""Points to range images and back, with NumPy and numba and without torch."""
