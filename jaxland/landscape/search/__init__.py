"""Find a landscape: what a search does, how its jobs are planned, shared out and merged."""
