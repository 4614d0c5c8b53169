"""Camera pose engines behind one interface (`annotate.pose.engine`)."""
