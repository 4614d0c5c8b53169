"""The SANA-WM network: arithmetic only, tensors in and tensors out."""
