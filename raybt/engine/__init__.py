"""Writes completions under many interventions at once. It speaks token ids and knows neither Ray nor files."""
