PYTHON ?= python3
VENV := .venv

.PHONY: setup demo test lint clean

setup: $(VENV)/.ready

# Everything raybt needs, in .venv; made again only when pyproject.toml changes.
$(VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	@touch $@

# The main job on the shipped model: a grid of interventions, then artifacts/demo/report.html.
demo: setup
	$(VENV)/bin/raybt run configs/demo.yaml

test: setup
	$(VENV)/bin/python -m pytest -n 2

lint: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/pyright

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
