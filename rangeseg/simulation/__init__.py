"""The procedural LiDAR street."""
