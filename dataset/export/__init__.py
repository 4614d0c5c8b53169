"""A data set in the formats of other tools: COLMAP, Rerun, FiftyOne, and a Hugging Face dataset card.

Files only: none of the tools is needed to write them.
"""
