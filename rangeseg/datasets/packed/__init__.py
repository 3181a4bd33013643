"""A data set packed into one file."""
