"""Planted truth: models whose onsets have a known cause, and whether raybt names it."""
