"""One command per file: its arguments, its call, its output."""
