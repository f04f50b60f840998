"""Thermodynamics and kinetics of a landscape in figures, sections and a page of their own."""

from jaxland.report.thermodynamics.figures import (
    funnel_figure,
    occupation_figure,
    path_figure,
    rates_figure,
    thermodynamics_figure,
)
from jaxland.report.thermodynamics.page import thermodynamics_report

__all__ = [
    "funnel_figure",
    "occupation_figure",
    "path_figure",
    "rates_figure",
    "thermodynamics_figure",
    "thermodynamics_report",
]
