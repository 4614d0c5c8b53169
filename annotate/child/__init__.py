"""Engines in processes of their own: other interpreter, other packages, requests and answers as files."""
