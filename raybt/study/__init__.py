"""Which rows a stage asks for: pure functions from config and finished tables to layouts and decisions."""
