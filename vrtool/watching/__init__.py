"""What a run shows of itself: its report, one page to look at and to listen to, and its events for TensorBoard."""
