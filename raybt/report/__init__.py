"""From finished tables to figures, HTML and Markdown. Formats numbers, computes none; reads and writes no files."""

from raybt.report.document import Results, render

__all__ = ["Results", "render"]
