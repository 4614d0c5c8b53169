"""Videos into clips: which spans, which pixels, which cameras, which bytes."""
