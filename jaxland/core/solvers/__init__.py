"""Lanes, and the solvers that run in them."""
