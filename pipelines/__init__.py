"""Commands that join the packages, on Ray or alone."""
