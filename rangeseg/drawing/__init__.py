"""Pictures of scans and trainings, as arrays and files."""
