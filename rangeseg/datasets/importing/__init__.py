"""Import foreign recordings into the toolkit's layout: ROS bags and files of scans."""
