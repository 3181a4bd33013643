"""One command a file: its words, its call, what it prints."""
