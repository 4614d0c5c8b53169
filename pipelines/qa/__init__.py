"""A web page on which a person finds what is wrong with a data set, and fixes the thresholds: docs/qa.md."""
