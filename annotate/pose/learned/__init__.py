"""Pose engines that are learned: ViPE, and feed-forward networks on overlapping windows."""
