"""Intervention grids on reasoning language models, on any Ray cluster."""
