"""Where the sensor was in each scan, and labels that are carried along from scan to scan."""
