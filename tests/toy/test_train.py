"""Training is deterministic, and its parts do what they say."""

import random

import pytest
import torch

from raybt.toy.batches import BATCH_TOKENS, batches, encode
from raybt.toy.network import LOOK_BACK, build
from raybt.toy.optimiser import Muon, orthogonalise, rate_share
from raybt.toy.problems import take
from raybt.toy.solutions import SLIPS, problem_text
from raybt.toy.tokenizer import train_tokenizer
from raybt.toy.train import PHASES, State, advance, save, source, train


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(0)


@pytest.fixture(autouse=True)
def settings():
    """Training sets torch's threads and determinism for its process; other tests share this one."""
    threads = torch.get_num_threads()
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


def trained_bytes(folder, seed):
    model, tokenizer, _ = train(seed, tokens=4000)
    save(model, tokenizer, folder)
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_the_same_seed_writes_the_same_bytes(tmp_path):
    first = trained_bytes(tmp_path / "first", seed=3)
    torch.rand(1)
    random.random()
    again = trained_bytes(tmp_path / "again", seed=3)
    assert {"model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja"} <= set(first)
    assert first == again


def test_tokens_weigh_what_their_letters_weigh(tokenizer):
    (problem,) = take(1, 1, "train")
    pieces = problem_text(problem, random.Random(1), SLIPS)
    row = encode(tokenizer, pieces)
    assert tokenizer.decode(row.ids) == "".join(piece.text for piece in pieces)
    assert len(row.ids) == len(row.weights)
    noun = tokenizer.convert_tokens_to_ids(f"Ġ{problem.item}")
    weights = {weight for token, weight in zip(row.ids, row.weights, strict=True) if token == noun}
    assert weights == {0.2, 4.0}  # in the question, and at the end of a step


def test_batches_are_bounded_and_padding_has_no_weight(tokenizer):
    stream = batches(source(0, State()), tokenizer, random.Random(0))
    for batch in (next(stream) for _ in range(12)):
        assert batch.ids.numel() <= BATCH_TOKENS
        assert batch.weights[batch.ids == tokenizer.pad_token_id].sum() == 0
        assert batch.tokens == (batch.ids != tokenizer.pad_token_id).sum()


def test_heads_start_out_looking_back(tokenizer):
    model = build(tokenizer, seed=0).eval()
    model.set_attn_implementation("eager")
    ids = torch.randint(10, 600, (1, 40), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        attention = model(ids, output_attentions=True).attentions
    for layer, offsets in enumerate(LOOK_BACK[:3]):
        for head, offset in enumerate(offsets):
            if offset:
                looked = attention[layer][0, head].argmax(-1)[10:]  # [positions]
                assert (torch.arange(10, 40) - looked == offset).float().mean() > 0.6


def test_muon_steps_are_orthogonal():
    matrix = torch.nn.Parameter(torch.zeros(8, 4))
    matrix.grad = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    Muon([matrix]).step()
    values = torch.linalg.svdvals(matrix.detach()) / (0.02 * 2**0.5)
    assert ((values > 0.5) & (values < 1.5)).all()
    assert orthogonalise(torch.randn(3, 4, 8)).shape == (3, 4, 8)


def test_rate_warms_up_stays_and_cools():
    assert rate_share(0, 0.0) < 0.02
    assert rate_share(1000, 0.3) == 1.0
    assert rate_share(1000, 0.6) < 0.7
    assert rate_share(1000, 1.0) == pytest.approx(0.03)


@pytest.mark.parametrize(("auc", "tokens", "phase"), [(0.96, 100, 1), (0.5, 100, 0), (0.5, 200, 1)])
def test_a_phase_ends_by_skill_or_by_its_cap(auc, tokens, phase):
    state = State(tokens=tokens, probes=[{"tiny": auc, "injected": 0.5}])
    advance(state, total=1000)
    assert state.phase == phase
    assert PHASES[-1].probe == ""
