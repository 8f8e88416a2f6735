"""What to run, as pure data: problems, prompts, conditions, rows and their keys. Loads neither torch nor Ray."""
