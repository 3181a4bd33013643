"""Training, validation, inference, evaluation, checkpoints and exports."""
