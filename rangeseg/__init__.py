"""rangeseg: semi-supervised LiDAR segmentation in the range view."""

__version__ = "0.1.0"
