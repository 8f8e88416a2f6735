"""The thirteen defects of the study that raybt scales up, each beside raybt's way on data where the two part.

In the order of the study's list. Every test computes the defective number first: data on which it did no harm would
show nothing.
"""

import csv
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from raybt.config import Triggers
from raybt.engine.decode import Decoder
from raybt.engine.probe.effects import effects
from raybt.engine.probe.lens import lens
from raybt.engine.request import Request, Sampling, Term
from raybt.errors import UserError
from raybt.load import load_config
from raybt.measure.collapse import Collapse
from raybt.measure.grading import final_answer, grade
from raybt.measure.judge import judge
from raybt.measure.onset import find_onsets
from raybt.measure.statistics import clustered_rate, wilson
from raybt.measure.study.scan import scan_table
from raybt.plan.rows import make_plan
from raybt.store.schemas.study import SCANS
from raybt.study.controls import band, matched_subsets
from raybt.study.decide import decide
from raybt.study.decisions import Decisions
from tests.measure.completions import completion, graded_rows, table
from tests.measure.small_tokenizers import byte_level
from tests.study.configs import facts, study
from tests.study.test_decide import SIX, Complete, grades

ROOT = Path(__file__).parents[1]
STUDY = ROOT.parent / "shared" / "reference" / "mats-backtracking"
PROMPT = tuple(range(20, 40))


def test_1_answers_are_graded_against_their_own_problem():
    golds = {"p0": "4", "p1": "9", "p2": "16"}
    rows = [
        completion(f"k{i}", f"Final: {golds[problem]}")
        for i, problem in enumerate(["p0", "p0", "p1", "p1", "p2", "p2"])
    ]
    by_row_number = [
        grade(f"Final: {golds[f'p{i // 2}']}", golds[f"p{i % 3}"], "eos").verdict == "correct" for i in range(6)
    ]
    assert sum(by_row_number) == 2  # the study's: row number modulo the number of problems
    problem_of = {f"k{i}": f"p{i // 2}" for i in range(6)}
    for order in (rows, rows[::-1]):
        _, graded = judge(table(order), problem_of, golds, byte_level(), Triggers())
        assert set(graded["verdict"].to_pylist()) == {"correct"}


def test_2_the_answer_is_the_last_stated_and_compared_as_a_number():
    text = "**Step 1** 3 * 6 = 18. The answer 12? Wait, no.\n**Final answer:** $1,800.00"
    first_match = re.search(r"\*\*(.+?)\*\*|answer\s*(\S+)", text)
    assert first_match and first_match[1] == "Step 1" != "1800"  # the study's extractor, then equality of strings
    assert grade(text, "1800", "eos").verdict == "correct"


def test_3_a_number_of_four_digits_is_one_number():
    text = "so it costs 7500"
    assert re.findall(r"\d{1,3}(?:,\d{3})*", text)[-1] == "0"  # the study's fallback
    assert final_answer(text) == "7500" and grade(text, "7,500", "eos").verdict == "correct"


def test_4_variants_that_are_one_prompt_are_refused():
    template = "{question}\n<think>\n"
    same = {"newline": "<think>\n", "none": None}  # null keeps the template's own, which is the same
    config = study(prompt={"template": template, "variants": same})
    with pytest.raises(UserError, match="newline.*none|none.*newline"):
        make_plan(config, facts(config))


def test_5_lengths_and_finish_reasons_are_each_rows_own(toy):
    rows = [Request(str(n), PROMPT, n, stream=n) for n in (5, 40, 160)]
    done = {row.key: row for row in Decoder(toy, Sampling(temperature=0.7), 16, 200).run(rows)}
    padded = max(len(row.token_ids) for row in done.values())
    assert len({padded, len(done["5"].token_ids)}) == 2  # the study gave every row of a batch the longest one's length
    for limit, row in done.items():
        ended = row.token_ids[-1] in toy.eos_ids
        assert row.finish_reason == ("eos" if ended else "length") and len(row.token_ids) <= int(limit)
    assert done["5"].finish_reason == "length"  # no problem is solved in 5 tokens
    assert grade("Final: 18", "18", "length").verdict == "truncated"  # and what was cut off is no answer


def test_6_a_broken_model_gives_no_finding_and_controls_lie_as_deep_as_their_target():
    baseline = graded_rows("baseline", onset=0.7, correct=0.8)
    broken = graded_rows("targeted", onset=0.03, correct=0.0)
    assert broken["onset_strict"].mean() < 0.2 * baseline["onset_strict"].mean()  # the study's evidence
    low, high = clustered_rate((broken["verdict"] == "correct").to_numpy(), broken["problem"].to_numpy())[1:]
    line = {"accuracy_all": 0.0, "accuracy_all_low": low, "accuracy_all_high": high, "chance_accuracy": 0.05,
            "answerable_rate": 1.0}  # fmt: skip
    assert Collapse(baseline).of(broken, line, is_baseline=False)["collapsed"]
    late = ["mlp.19", "mlp.22", "mlp.24", "mlp.27"]
    early = ["mlp.2", "mlp.5", "mlp.9", "mlp.11"]  # like the study's one control, below layer 19
    depths = [sorted(band(int(site.split(".")[1]), 28) for site in sites) for sites in (late, early)]
    assert depths[0] != depths[1]
    controls = matched_subsets(late, 28, 12, seed=0).subsets
    assert len(controls) == 20
    assert all(sorted(band(int(site.split(".")[1]), 28) for site in one) == depths[0] for one in controls)


def test_7_they_wait_10_minutes_is_no_onset():
    text = "They wait 10 minutes. It is actually 12. Wait, that is wrong."
    without_case = [match[0] for match in re.finditer("wait|actually|hold on", text, re.IGNORECASE)]
    assert without_case == ["wait", "actually", "Wait"]
    assert [(onset.phrase, onset.char) for onset in find_onsets(text, Triggers())] == [("Wait", 41)]


def test_8_a_continuation_is_measured_by_running_the_model(toy):
    found = effects(toy, PROMPT, [15], [31], [(), (Term("mlp.3"),), (Term("mlp.3", "scale", 0.5),)], [31, 32])[0]
    assert found.target_change[0] == pytest.approx(0, abs=1e-5)  # scale 1
    changes = [abs(change) for change in found.target_change[1:]]
    assert min(changes) > 1e-3 and changes[0] != changes[1]
    assert np.isfinite(found.trigger_mass).all() and len(set(found.trigger_mass)) == 3


def test_9_the_last_layers_lens_is_the_model_and_each_control_has_its_own_target(toy):
    tokens, events, targets = PROMPT, (8, 14), (33, 47)
    found = lens(toy, tokens, events, targets)
    with torch.inference_mode():
        for row, (event, target) in enumerate(zip(events, targets, strict=True)):
            states = toy.model(torch.tensor([tokens[:event]]), output_hidden_states=True)
            normed = states.hidden_states[-1][0, -1]  # transformers has applied the final norm here already
            twice = toy.model.lm_head(toy.model.model.norm(normed))[target].item()
            assert abs(twice - states.logits[0, -1, target].item()) > 1e-2  # the study's last layer
            assert found.logit[row, -1].item() == pytest.approx(states.logits[0, -1, target].item(), abs=1e-3)
    chosen = decide(study({"lens": {"kind": "lens"}}), SIX, Decisions(), [f"p{n}" for n in range(30)], two_words())
    events = next(one for one in chosen if one.name == "events:lens").value["events"]
    own = {event["of"]: event["target"] for event in events if event["role"] == "onset"}
    assert len(set(own.values())) == 2  # the study gave all controls the first event's
    assert all(event["target"] == own[event["of"]] for event in events)


def two_words():
    """Onsets of two different words; every completion is long enough for a control at the onset's index."""
    rows = grades()
    odd = rows["problem"].str[1:].astype(int) % 2 == 1
    rows.loc[odd & rows["onset_strict"], "onset_token_id"] = 88.0
    return Complete(rows)


def test_10_a_site_that_breaks_the_model_is_not_chosen_however_far_its_logit_falls():
    """mlp.3 takes the triggers away and nothing else; attn.0 takes everything away."""
    rows = [{"stage": "scan", "kind": "scan", "event": f"k{n}:3", "role": role, "of": f"k{n}:3", "condition": None,
             "intervention": None, "problem": f"p{n}", "key": f"{role}{n}"}
            for n in range(12) for role in ("onset", "position")]  # fmt: skip
    scans = [_scanned(row["key"], row["role"], 0.01 * n) for n, row in enumerate(rows)]
    made = scan_table(pd.DataFrame(rows), pa.Table.from_pylist(scans, SCANS)).to_pandas().set_index("site")
    by_logit = made["target_change"].idxmin()
    assert by_logit == "attn.0" and made.loc["attn.0", "verdict"] == "breaks the model"
    assert made.loc["mlp.3", "verdict"] == "qualifies" and made["specific"].idxmax() == "mlp.3"


def _scanned(key, role, jitter):
    """One event: at onsets both sites take the triggers away; at controls only attn.0 changes anything."""
    effects = {
        "onset": {"attn.0": (-15 - jitter, 0.001, 9 + jitter, 0.6, False),
                  "mlp.3": (-2 - jitter, 0.1 + jitter / 10, 0.8 + jitter, 0.7 + jitter, False)},
        "position": {"attn.0": (-8 - jitter, 0.01, 7 + jitter, 0.1, False),
                     "mlp.3": (0.001, 0.01, 0.001, 0.0001, True)},
    }[role]  # fmt: skip
    names = ("target_change", "trigger_mass", "kl", "kl_trigger", "agrees")
    return {
        "key": key, "target_log_probability": -0.5, "trigger_mass": 0.7 if role == "onset" else 0.01,
        "floor_target": 0.0, "floor_mass": 1e-6, "floor_kl": 0.0, "words": [],
        "effects": [{"intervention": f'[["{site}","scale",0.0]]', **dict(zip(names, one, strict=True)), "words": []}
                    for site, one in effects.items()],
        "seconds": 0.1, "replica": "r", "numerics": "cpu",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["phase1", "phase2"])
def test_11_both_phases_ask_through_the_models_chat_template(name):
    config = load_config(ROOT / "configs" / f"{name}.yaml")
    system = load_config(ROOT / "configs" / "phase1.yaml").prompt.system
    assert config.prompt.uses_chat and system and config.prompt.system == system  # the study's phase 2 had neither
    assert config.prompt.template == load_config(ROOT / "configs" / "phase1.yaml").prompt.template


def test_12_the_receipt_says_which_steps_were_touched(toy):
    term = (Term("mlp.3", "scale", 0.5),)
    rows = [Request(name, PROMPT, 12, 1, term, name, forced=tuple(range(40, 52))) for name in ("decode", "generated")]
    done = {row.key: row.receipt for row in Decoder(toy, Sampling(), 16, 64).run(rows)}
    assert done == {"decode": {"mlp.3": 11}, "generated": {"mlp.3": 12}}  # the study's hooks never saw the first token


def test_13_samples_of_one_problem_are_not_independent():
    onsets = np.repeat([1.0, 0.0] * 20, 6)  # 40 problems x 6 samples that agree within a problem
    rate, low, high = clustered_rate(onsets, np.repeat(np.arange(40), 6))
    plain_low, plain_high = wilson(onsets.sum(), len(onsets))
    assert rate == 0.5 and (high - low) > 2 * (plain_high - plain_low)


@pytest.mark.skipif(not STUDY.exists(), reason="the study's published data are not here")
def test_13_on_the_studys_own_baseline():
    with (STUDY / "backtracking_events.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["condition"] == "baseline"]
    onsets = np.array([row["has_backtracking_strict"] == "True" for row in rows], dtype=float)
    problems = [row["example_id"] for row in rows]
    _, low, high = clustered_rate(onsets, problems)
    plain_low, plain_high = wilson(onsets.sum(), len(onsets))
    assert ((high - low) / (plain_high - plain_low)) ** 2 > 2  # the design effect
