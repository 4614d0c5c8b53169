"""What `src=` means, and what came with the videos: manifests, cameras, files fetched from afar."""
