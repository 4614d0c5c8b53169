"""Near-duplicates: clips that show the same video, encoded, resized, cropped or cut another time."""
