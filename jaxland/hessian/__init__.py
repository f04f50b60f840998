"""Influence, uncertainty and extrapolation from one treatment of the training loss's Hessian."""
