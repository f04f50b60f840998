"""Minima, transition states, disconnectivity graph, groups and conserved weights of a loss."""
