"""Where one shot ends and the next begins: hard cuts, dissolves, fades, blank stretches."""
