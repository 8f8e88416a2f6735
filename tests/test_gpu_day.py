"""The GPU's day rehearsed on the CPU: every part of the real script, and what the jobs for a GPU share."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.usefixtures("jobs_path")


@pytest.fixture
def jobs_path(monkeypatch):
    """Jobs import each other by plain names."""
    monkeypatch.syspath_prepend(str(ROOT / "jobs"))


def day(*options):
    command = [sys.executable, str(ROOT / "jobs" / "gpu_day.py"), *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, timeout=280)


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory):
    """What all parts find at tiny shapes on a CPU.

    The script runs the first and the kernels, which are interpreted. One process has the others: each would take as
    long to start as to run.
    """
    out, own, others = tmp_path_factory.mktemp("day"), ("runs", "kernels"), ("right", "speed", "grid", "profile")
    program = "import sys; from pathlib import Path; from gpu_day import inside\n"
    program += f"for part in {others}: inside(part, Path(sys.argv[1]), 'cpu', True, 280)"
    path = {"PYTHONPATH": f"{ROOT}:{ROOT / 'jobs'}", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with subprocess.Popen([sys.executable, "-c", program, str(out)], env=os.environ | path) as rest:
        ran = day("--device", "cpu", "--quick", "--parts", ",".join(own), "--out", out)
        assert rest.wait(280) == 0 and ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    whole = json.loads((out / "all.json").read_text())
    parts = {name: json.loads((out / f"{name}.json").read_text()) for name in (*own, *others)}
    for name, part in parts.items():
        assert part["failed"] == [], (ran.stdout[-6000:], part["failed"])
        assert all(state.startswith("done") for state in part["sections"].values()), part["sections"]
        if name in own:
            assert whole["parts"][name]["status"] == "done" and whole["parts"][name]["found"] == part["found"]
            assert all(line[:20] in ran.stdout for line in part["headlines"])
    return {"card": whole["card"], "parts": parts}


def found(whole, part, table):
    return whole["parts"][part]["found"][table]


def test_every_kind_of_row_runs_and_every_kernel_equals_plain_torch(rehearsed):
    decoded = found(rehearsed, "runs", "decoded")
    ways = {(row["model"], row["asked"], row["capture"]) for row in decoded}
    assert ways == {(m, f, c) for m in ("shipped", "random") for f in ("none", "kernels") for c in (False, True)}
    for row in decoded:
        assert row["rows"] == 32 and row["errors"] == [] and row["receipts"] > 12 and row["tokens"] >= 96
        assert row.get("unlike_eager", 0) == 0
    assert {row["why"] for row in found(rehearsed, "runs", "waits")} == {None}
    (refused,) = found(rehearsed, "runs", "refused_capture")
    assert refused["ok"] and refused["unlike_eager"] == refused["graphs"] == 0
    kernels = found(rehearsed, "kernels", "kernels")
    assert {row["kernel"].partition("'")[0] for row in kernels} == {
        "attend_slots", "add_norm", "silu_product", "rotate_and_write", "write", "act"
    }  # fmt: skip
    assert all(row["relative"] < 1e-5 for row in kernels)
    assert all(row["unlike"] == 0 for row in found(rehearsed, "kernels", "draws"))
    assert all(row["draws"] == 12 and row["outside"] == 0 for row in found(rehearsed, "kernels", "frequencies"))
    card = rehearsed["card"]
    assert card["card"] == "CPU" and card["torch"] == torch.__version__ and card["date"][:2] == "20"


def test_numbers_are_right_and_rows_keep_to_themselves(rehearsed):
    assert all(
        row["relative"] < 1e-4 for table in ("fp32", "interventions") for row in found(rehearsed, "right", table)
    )
    assert all(0.5 < row["ratio"] < 1.1 for row in found(rehearsed, "right", "bf16"))
    neighbours = [row for row in found(rehearsed, "right", "neighbours") if row["type"] == "float32"]
    assert len(neighbours) == 4 and all(row["share_unlike"] == 0 and row["rows"] >= 8 for row in neighbours)


def test_speed_of_every_way_to_compute_a_step(rehearsed):
    steps = found(rehearsed, "speed", "steps")
    assert {(row["slots"], row["asked"], row["sites"]) for row in steps} == {
        (32, "kernels", "none"), (32, "kernels", "all"), (32, "none", "none"), (32, "none", "all"),
        (32, "compiled", "none"), (16, "none", "one"),
    }  # fmt: skip
    assert all(row["tokens_per_second"] == pytest.approx(1e3 * row["slots"] / row["ms"]) for row in steps)
    assert all(row["share_of_floor"] > 0 for row in steps)


def test_a_grid_and_a_profile(rehearsed):
    (grid,) = found(rehearsed, "grid", "grid")
    assert grid["finished"] == grid["rows"] == 40 and grid["tokens"] == 40 * grid["mean_length"]
    assert grid["ratio"] == pytest.approx(grid["tokens_per_second"] / grid["steady_tokens_per_second"])
    assert 0.3 < grid["occupancy"] <= 1
    assert {row["way"] for row in found(rehearsed, "grid", "rivals")} >= {"A", "B"}
    (scan,) = found(rehearsed, "grid", "scan")
    assert scan["events"] == 4 and scan["sites"] == 4 and scan["noise_floor"] < 0.1
    profiles = {row["of"]: row for row in found(rehearsed, "profile", "profiles")}
    assert "refill of 4 rows" in profiles and len(profiles) >= 3
    for name, row in profiles.items():
        top = [kernel for kernel in found(rehearsed, "profile", "kernels") if kernel["of"] == name]
        assert 0 < sum(kernel["us_a_step"] for kernel in top) <= row["us_a_step"] * (1 + 1e-9)


def test_a_part_without_time_is_skipped_with_a_line(tmp_path):
    ran = day("--device", "cpu", "--quick", "--parts", "runs,speed", "--budget", "3", "--out", tmp_path)
    assert ran.returncode == 0 and "runs: skipped, " in ran.stdout and "speed: skipped, " in ran.stdout
    assert json.loads((tmp_path / "all.json").read_text())["parts"]["runs"]["status"] == "skipped: no time left"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--part", "sped"], "no part sped. Fix: choose from runs, kernels, right, speed, grid, profile"),
        (["--device", "tpu"], "--device must be cuda or cpu; got tpu"),
        pytest.param([], "needs a CUDA GPU", marks=pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")),
    ],
)
def test_wrong_input_is_one_line(options, told):
    ran = day(*options)
    assert ran.returncode == 2 and told in ran.stdout and "Traceback" not in ran.stderr


def test_a_section_that_fails_or_hangs_costs_only_itself(tmp_path):
    """As a part's process does it twice: the first one ends in the section that hangs."""
    program = f"""
import sys, time
from pathlib import Path
from gpu.found import Found
found = Found(Path({str(tmp_path / "part.json")!r}), "cpu", 60)
found.section("wrong", lambda: 1 / 0, 5)
found.section("hangs", lambda: time.sleep(60), 0.5)
found.section("good", lambda: found.add("numbers", value=1), 5)
found.section("late", lambda: found.add("numbers", value=2), 5, needs=1000)
"""
    path = {"PYTHONPATH": f"{ROOT}:{ROOT / 'jobs'}", "PATH": "/usr/bin:/bin"}
    codes = [subprocess.run([sys.executable, "-c", program], env=path, timeout=60).returncode for _ in range(2)]
    part = json.loads((tmp_path / "part.json").read_text())
    assert codes[0] != 0 and codes[1] == 0
    assert part["found"] == {"numbers": [{"value": 1}]}
    states = part["sections"]
    assert states["wrong"] == "failed: ZeroDivisionError: division by zero" and states["good"].startswith("done")
    assert states["hangs"] == "failed: the process died or hung in it" and states["late"].startswith("skipped")
    assert len(part["failed"]) == 2


def test_a_part_out_of_time_is_ended_with_all_its_children(tmp_path):
    from gpu_day import once

    note = tmp_path / "child"
    assert once(["sh", "-c", f"sleep 60 & echo $! > {note}; wait"], {"PATH": "/usr/bin:/bin"}, 1) is None
    for _ in range(50):
        stat = Path(f"/proc/{note.read_text().strip()}/stat")
        if not stat.exists() or stat.read_text().split()[2] == "Z":  # gone, or dead and not yet collected
            return
        time.sleep(0.1)
    raise AssertionError("the child lives on")


def test_the_floor_by_hand():
    """DeepSeek-R1-Distill-Qwen-1.5B in bf16 on an H100 as one was measured: 256 slots that see 350 tokens each."""
    from gpu.floor import Shape, Speeds, floor_seconds, parts_of

    shape, h100 = Shape(1536, 8960, 28, 12, 2, 128, 151936), Speeds(3.0e12, 798e12)
    parts = {part.name: part for part in parts_of(shape, 256, 350)}
    assert parts["gate, up"].bytes == 28 * 2 * 1536 * 8960 * 2
    assert parts["gate, up"].operations == 28 * 2 * 1536 * 8960 * 2 * 256
    assert parts["q, k, v"].bytes == 28 * 1536 * (1536 + 2 * 256) * 2
    assert parts["keys and values"].bytes == 256 * 350 * 28 * 2 * 2 * 128 * 2
    assert parts["keys and values"].operations == 256 * 350 * 28 * 12 * 128 * 4
    blocks = 28 * (2 * 1536 * 1536 + 2 * 256 * 1536 + 3 * 1536 * 8960) * 2 / 3.0e12  # 0.87 ms; products take 0.84
    head, cache, logits = 151936 * 1536 * 2 / 3.0e12, 2_569_011_200 * 2 / 2 / 3.0e12, 256 * 151936 * 2 / 3.0e12
    assert floor_seconds(shape, 256, 350, h100) == pytest.approx(blocks + head + cache + logits)
    assert 256 / floor_seconds(shape, 256, 350, h100) == pytest.approx(135_000, rel=0.02)
    wide = floor_seconds(shape, 512, 0, h100)  # with 512 slots products take longer than reading their weights
    products = 2 * 512 * (28 * 46_792_704 + 151936 * 1536) / 798e12
    assert wide == pytest.approx(products + 2 * logits)


def test_the_floor_takes_its_shape_from_the_model():
    from gpu.floor import Shape, shape_of
    from gpu.rows import random_model

    model = random_model("cpu", quick=True).model
    assert shape_of(model) == Shape(64, 128, 2, 4, 2, 16, 512, 2)


def test_a_random_models_next_tokens_are_a_language_models_to_guess():
    from gpu.rows import entropy, random_model

    model = random_model("cpu", quick=True).model
    ids = torch.randint(5, 512, (64, 16), generator=torch.Generator().manual_seed(7))
    with torch.inference_mode():
        assert entropy(model(input_ids=ids).logits.flatten(0, 1).float()) == pytest.approx(1, abs=0.15)


def test_lengths_are_geometric_and_cut():
    from gpu.rows import lengths

    drawn = lengths(20_000, 100, 10_000)
    assert sum(drawn) / len(drawn) == pytest.approx(100, rel=0.03) and min(drawn) == 1
    assert sum(length > 100 for length in drawn) / len(drawn) == pytest.approx(0.37, abs=0.02)
    assert max(lengths(2000, 100, 128)) == 128


def test_the_jobs_for_a_gpu_need_neither_ray_nor_datasets():
    program = (
        "import sys, importlib; sys.path.insert(0, 'jobs'); from gpu_day import PARTS\n"
        "for part in PARTS: importlib.import_module(f'gpu.part_{part}')\n"
        "print({'ray', 'datasets', 'pydantic', 'pandas', 'pyarrow'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100, cwd=ROOT)
    assert ran.stdout.strip() == "set()", ran.stderr[-500:]
