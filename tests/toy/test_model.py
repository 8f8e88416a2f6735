"""The shipped checkpoint: loads like any other, and really backtracks."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast, Qwen2ForCausalLM

from raybt.toy import MODEL_DIR
from raybt.toy.card import parameter_count
from raybt.toy.evaluate import GATES, SAMPLING, complete, evaluate, failed_gates, load, measure_row, measures
from raybt.toy.labels import final_of, stated_steps
from raybt.toy.network import build
from raybt.toy.probes import injected, onset_ids
from raybt.toy.problems import take
from raybt.toy.sites import complete_batch, decode_scale, measure, site_modules
from raybt.toy.solutions import ASSISTANT, BOS, EOS, ONSETS, PAD, SYSTEM, THINK, USER
from raybt.toy.tokenizer import train_tokenizer

QUESTION = "Mia has 23 apples. Tom gives her 7 apples. Then she sells 4 of them. How many apples does Mia have now?"
FRESH = 909  # evaluation seed of these tests


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def loaded():
    return load(MODEL_DIR)


@pytest.fixture(scope="module")
def problems():
    return take(40, FRESH, "evaluation")


def test_checkpoint_is_small_and_plain(loaded):
    assert sum(file.stat().st_size for file in MODEL_DIR.iterdir()) <= 6_000_000
    assert isinstance(loaded[0], Qwen2ForCausalLM)
    config = json.loads((MODEL_DIR / "config.json").read_text())
    assert config["architectures"] == ["Qwen2ForCausalLM"]
    assert config["vocab_size"] == len(loaded[1]) == 600
    assert config["max_position_embeddings"] == 512
    assert parameter_count(MODEL_DIR) == sum(parameter.numel() for parameter in loaded[0].parameters())


def test_both_tokenizer_classes_agree(loaded):
    fast = PreTrainedTokenizerFast.from_pretrained(MODEL_DIR)
    text = f"{BOS}{USER}{QUESTION}{ASSISTANT}{THINK}\n23+7=30 apples.\nWait, 23+7=30 apples.\nFinal: 26{EOS}"
    ids = loaded[1](text, add_special_tokens=False)["input_ids"]
    assert fast(text, add_special_tokens=False)["input_ids"] == ids
    assert len(fast) == len(loaded[1])
    assert fast.get_vocab() == loaded[1].get_vocab()


@pytest.mark.parametrize("text", [QUESTION, "12*345=4140", "naïve – 数 🙂 Ünïcode\n\n  x", "Hold on, 4*6=24 pens.\n"])
def test_round_trip(loaded, text):
    ids = loaded[1](text)["input_ids"]
    assert loaded[1].decode(ids) == text


def test_digits_and_specials_are_single_tokens(loaded):
    tokenizer = loaded[1]
    assert tokenizer.tokenize("2026") == ["2", "0", "2", "6"]
    for special in (BOS, EOS, PAD, SYSTEM, USER, ASSISTANT, THINK):
        assert len(tokenizer(special)["input_ids"]) == 1
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == (BOS, EOS, PAD)


def test_chat_template(loaded):
    tokenizer = loaded[1]
    user, system = {"role": "user", "content": QUESTION}, {"role": "system", "content": "Think in steps."}
    plain = tokenizer.apply_chat_template([user], tokenize=False, add_generation_prompt=True)
    assert plain == f"{BOS}{USER}{QUESTION}{ASSISTANT}{THINK}\n"
    assert tokenizer(plain, add_special_tokens=False)["input_ids"].count(tokenizer.bos_token_id) == 1
    with_system = tokenizer.apply_chat_template([system, user], tokenize=False, add_generation_prompt=True)
    assert with_system == f"{BOS}{SYSTEM}Think in steps.{USER}{QUESTION}{ASSISTANT}{THINK}\n"
    answered = tokenizer.apply_chat_template([user, {"role": "assistant", "content": "Final: 26"}], tokenize=False)
    assert answered == f"{BOS}{USER}{QUESTION}{ASSISTANT}Final: 26{EOS}"


def test_onset_ids_begin_onset_words_only(loaded):
    texts = [loaded[1].decode([i]) for i in onset_ids(loaded[1])]
    assert {"Wait", "Actually", "Hold", "W", "A", "H"} <= set(texts)
    assert all(any(word.startswith(text) for word in ONSETS) for text in texts)


def test_it_backtracks(loaded, problems):
    found = measure(*loaded, problems, seed=1)
    assert found["accuracy"] > 0.7
    assert 0.15 < found["onset_rate"] < 0.85
    assert found["step_error"] > 0.02
    assert found["p_onset_wrong"] > 0.6 > 0.2 > found["p_onset_right"]


def test_it_tells_a_wrong_step_from_a_right_one(loaded, problems):
    found = injected(*loaded, problems, seed=1)
    assert found.auc > 0.93
    assert found.noun > 0.8


@pytest.mark.parametrize("suffix", ["<think>\n", "<think> ", ""])
def test_every_trained_suffix_works(loaded, problems, suffix):
    model, tokenizer = loaded
    right = 0
    for problem in problems[:12]:
        prompt = tokenizer(f"{BOS}{USER}{problem.question}{ASSISTANT}{suffix}")["input_ids"]
        out = model.generate(torch.tensor([prompt]), do_sample=False, temperature=None, max_new_tokens=96)
        right += final_of(tokenizer.decode(out[0, len(prompt) :], skip_special_tokens=True)) == problem.gold
    assert right >= 8


def test_a_row_regenerates_from_its_seed_by_plain_generate(loaded, problems):
    row = measure_row(*loaded, problems[0], seed=77)
    model = AutoModelForCausalLM.from_pretrained(MODEL_DIR, dtype=torch.float32)
    ids = torch.tensor([row["prompt_ids"]])
    torch.manual_seed(row["seed"])
    out = model.generate(ids, do_sample=True, temperature=0.7, top_p=1.0, top_k=0, max_new_tokens=128)
    assert out[0, ids.size(1) :].tolist() == row["completion_ids"]
    tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
    assert tokenizer.decode(row["completion_ids"], skip_special_tokens=True) == row["text"]


def test_every_gate_can_be_computed_again_from_the_rows():
    found = evaluate(MODEL_DIR, count=6, seed=FRESH)
    assert set(found) == {*GATES, "seed", "problems", "rows"}
    again = json.loads(json.dumps(found["rows"]))
    assert measures(again) == {name: found[name] for name in GATES if name != "injected_auc"}
    tests = [row["injected"] for row in again]
    wins = [wrong["p_wrong"] > right["p_right"] for wrong in tests for right in tests]
    assert found["injected_auc"] == pytest.approx(sum(wins) / len(wins))
    assert [row["question"] for row in again] == [p.question for p in take(6, FRESH, "evaluation")]


def test_banned_rows_hold_no_onset(loaded, problems):
    model, tokenizer = loaded
    banned = onset_ids(tokenizer)
    for seed, problem in enumerate(problems[:10]):
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": problem.question}], add_generation_prompt=True, return_dict=True
        )["input_ids"]
        text = tokenizer.decode(complete(model, prompt, seed, banned))
        assert not any(word in text for word in ONSETS)


def test_ablation_leaves_the_first_token_alone_and_changes_later_ones(loaded, problems):
    model, tokenizer = loaded
    questions = [problem.question for problem in problems[:8]]
    plain = complete_batch(model, tokenizer, questions, seed=3)
    with decode_scale(site_modules(model)["mlp.0"], 0.0):
        ablated = complete_batch(model, tokenizer, questions, seed=3)
    with decode_scale(site_modules(model)["mlp.0"], 1.0):
        assert complete_batch(model, tokenizer, questions, seed=3) == plain
    assert [text[:1] for text in ablated] == [text[:1] for text in plain]
    assert ablated != plain


def test_an_untrained_model_fails_every_gate_that_needs_skill(problems):
    tokenizer = train_tokenizer(0, texts=500)
    model = build(tokenizer, seed=0).eval()
    found = measures([measure_row(model, tokenizer, problems[0], seed=1)])
    found |= {"injected_auc": injected(model, tokenizer, problems, seed=1).auc}
    assert {"accuracy", "injected_auc", "p_onset_wrong"} <= {line.split()[0] for line in failed_gates(found)}


def test_sampling_is_the_stated_one(loaded):
    assert SAMPLING == {"do_sample": True, "temperature": 0.7, "top_p": 1.0, "top_k": 0, "max_new_tokens": 128}
    generation = loaded[0].generation_config
    assert (generation.temperature, generation.top_p, generation.top_k) == (0.7, 1.0, 0)


def test_labels_survive_a_batch(loaded, problems):
    texts = complete_batch(*loaded, [problem.question for problem in problems[:8]], seed=5)
    stated = [stated_steps(text, problem.steps) for text, problem in zip(texts, problems[:8], strict=True)]
    assert all(len(steps) >= 2 for steps in stated)
