"""View scans: an open3d window, pictures without a display, strips, training batches."""
