"""Poses of the sensor, and propagation of labels from scan to scan."""
