"""Training, validation, inference, evaluation, checkpoints and files of predictions."""
