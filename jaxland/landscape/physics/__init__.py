"""Heat a landscape: thermodynamics, kinetics, funnels."""
