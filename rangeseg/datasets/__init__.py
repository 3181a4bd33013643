"""One file per data set: its quirks live there and nowhere else."""
