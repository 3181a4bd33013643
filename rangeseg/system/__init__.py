"""Files, processes, devices and progress bars."""
