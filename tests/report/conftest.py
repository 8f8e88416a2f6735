"""Results to draw and tell, and the functions that make others."""

import numpy as np
import pytest

from raybt.report import render
from tests.report.conditions import build, condition, example, sweep
from tests.report.studies import build_study, controls_of, layered


@pytest.fixture
def make_study():
    return build_study


@pytest.fixture
def make_controls():
    return controls_of


@pytest.fixture
def make_layers():
    return layered


@pytest.fixture(scope="session")
def studied():
    return build_study()


@pytest.fixture(scope="session")
def study_files(studied):
    return render(studied)


@pytest.fixture
def make():
    return build


@pytest.fixture
def make_condition():
    return condition


@pytest.fixture
def make_example():
    return example


@pytest.fixture
def make_sweep():
    return sweep


@pytest.fixture(scope="session")
def results():
    return build(sweep(), mixed=True)


@pytest.fixture(scope="session")
def files(results):
    return render(results)


@pytest.fixture
def many(make):
    """56 conditions with long names and 7 subsets x 8 scales."""
    random = np.random.default_rng(0)
    rows = [condition("baseline", 0.43, 0.86)]
    for subset in range(7):
        for scale in (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 1.25):
            name = f"layers_{subset}_to_{subset + 3}_mlp_and_attn"
            broken = "accuracy at chance" if subset == 3 and scale < 0.3 else None
            rows.append(
                condition(
                    f"{name}@{scale:g}",
                    float(random.uniform(0.05, 0.6)),
                    float(random.uniform(0.3, 0.9)),
                    subset=name,
                    scale=scale,
                    finding="no evidence",
                    because=broken,
                )
            )
    return make(rows)
