"""Mutual information with error bars."""
