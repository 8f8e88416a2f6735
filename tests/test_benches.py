"""The benchmarks run, and write the numbers that they promise; how large these are is no test's business."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def bench(name, *options, **less):
    """A benchmark as it is started, but with other values of its module's constants."""
    program = f"""
import sys, torch, typer
sys.path.insert(0, 'jobs')
torch.set_num_threads(1)
import {name} as made
vars(made).update({less})
print({{'ray', 'datasets'}} & set(sys.modules))
typer.run(made.main)
"""
    command = [sys.executable, "-c", program, *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=250, cwd=ROOT)


@pytest.fixture
def numbers(tmp_path):
    def run(name, *options, **less):
        ran = bench(name, *options, "--json", str(tmp_path / "out.json"), **less)
        assert ran.returncode == 0, ran.stderr[-2000:]
        return json.loads((tmp_path / "out.json").read_text())

    return run


def test_engine(numbers):
    toy = numbers("bench_engine", "--models", "toy", "--rows", "64", ENOUGH=200, TURNS=1)["models"]["toy"]
    assert set(toy["ratio"]) == {"A", "B", "C", "E", "E_even"} and all(toy["ratio"][way] > 0 for way in "ABC")
    assert 0.3 < toy["occupancy"] <= 1
    assert set(toy["share"]) == {"forward", "hooks", "sampling", "prefill", "refill", "host"}
    whole = sum(share for part, share in toy["share"].items() if part != "hooks")
    assert whole == pytest.approx(1) and 0 < toy["share"]["hooks"] < toy["share"]["forward"]


def test_scan(numbers):
    found = numbers("bench_scan", "--layers", "3", "--tokens", "96", "--timed-sites", "2")
    assert found["ratio_one_event"] > 0 and found["ratio_eight_events"] > found["ratio_one_event"]
    assert found["max_abs_diff"] < 1e-4 and found["noise_floor"] < 1e-4


def test_gpu_path_on_the_cpu(numbers):
    found = numbers("bench_gpu", "--device", "cpu", "--quick")
    assert {(row["slots"], row["sites"]) for row in found["steps"]} == {
        (s, k) for s in (16, 32) for k in ("none", "one", "all")
    }
    assert all(row["tokens_per_second"] > 0 and row["share_of_floor"] > 0 for row in found["steps"])
    assert found["product_operations_per_second"] > 0 and set(found["rivals"]) >= {"A", "B"}


def test_without_a_gpu_it_says_so_in_one_line_and_needs_neither_ray_nor_datasets():
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    ran = bench("bench_gpu")
    assert ran.returncode == 2 and "needs a CUDA GPU" in ran.stdout and "Traceback" not in ran.stderr
    assert ran.stdout.startswith("set()")  # it is told so with neither Ray nor datasets loaded
