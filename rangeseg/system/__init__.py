"""Files, processes, devices and progress bars: what the machine gives."""
