"""Training, inference, metrics, checkpoints, reports."""
