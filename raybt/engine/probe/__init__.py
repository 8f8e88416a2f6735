"""Measurements at an onset: what each layer would say (lens), each site does (scan), what follows (continuation)."""
