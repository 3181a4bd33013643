"""Training, validation, inference, evaluation, checkpoints and prediction files."""
