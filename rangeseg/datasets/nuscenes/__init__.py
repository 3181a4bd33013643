"""nuScenes lidarseg."""
