"""Interpret a landscape: conserved weights, attribution, values per minimum."""
