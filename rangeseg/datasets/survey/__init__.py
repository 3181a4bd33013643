"""What ``rangeseg-data`` says of a data set."""
