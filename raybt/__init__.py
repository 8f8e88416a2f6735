"""Intervention grids on reasoning language models, on any Ray cluster."""

__version__ = "0.1.0"
