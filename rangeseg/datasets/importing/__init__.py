"""Recordings of others written into the toolkit's own layout: ROS bags and files of scans."""
