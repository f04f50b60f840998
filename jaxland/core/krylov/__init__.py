"""Extreme eigenpairs, spectral densities and linear systems by products with a symmetric matrix."""
