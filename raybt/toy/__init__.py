"""The small real model that ships with raybt: problems, training, product and its measured behaviour.

Importing this package loads nothing heavy. `MODEL_DIR` is a Hugging Face checkpoint folder and `PROBLEMS_FILE`
a JSON-lines file of problems that the model never saw in training nor was measured on.
"""

from pathlib import Path

MODEL_DIR: Path = Path(__file__).parent / "model"
PROBLEMS_FILE: Path = Path(__file__).parent / "problems.jsonl"
