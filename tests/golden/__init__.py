"""Golden fixtures of the released model: `python -m tests.golden FOLDER` checks every file of a folder.

One module for each kind of file, named like it, with `check(fixture) -> list[Comparison]`.
"""
