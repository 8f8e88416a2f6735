"""Prompts: what the model reads, token for token."""

import pytest

from raybt.config import Prompt
from raybt.errors import UserError
from raybt.plan.problems import Problem
from raybt.plan.prompts import plan_prompts
from raybt.store.schemas import PROMPTS
from tests.plan.models import small_tokenizer

PROBLEM = Problem("p1", "Is {x} = 2?", "2")
LITERAL = {"template": "Q: {question}\n<think>\n"}


def prompts(prompt, problems=(PROBLEM,), context=512, new=16, rows=None, switch=None, **tokenizer):
    return plan_prompts(problems, Prompt(**prompt), small_tokenizer(**tokenizer), context, new, rows, switch)


def texts(prompt, **rest):
    return prompts(prompt, **rest)["text"].to_pylist()


def test_a_literal_template_is_taken_at_its_word():
    assert texts(LITERAL) == ["Q: Is {x} = 2?\n<think>\n"]
    assert texts({**LITERAL, "system": "Be brief."}) == ["Be brief.\n\nQ: Is {x} = 2?\n<think>\n"]


def test_the_chat_template_is_used_where_there_is_no_other():
    assert texts({}) == ["<s>[user]Is {x} = 2?[assistant]<think>\n"]
    assert texts({"system": "S"}) == ["<s>[system]S[user]Is {x} = 2?[assistant]<think>\n"]


def test_a_template_can_be_the_users_turn():
    assert texts({"template": "Q: {question}", "chat": True}) == ["<s>[user]Q: Is {x} = 2?[assistant]<think>\n"]


@pytest.mark.parametrize("base", [LITERAL, {}], ids=["literal", "chat"])
def test_a_variant_replaces_the_think_suffix(base):
    own, none, other = texts({**base, "variants": {"own": None, "none": "", "other": "<think> "}})
    assert own.endswith("<think>\n") and none == own[: -len("<think>\n")] and other == none + "<think> "


def test_a_variant_is_added_where_the_template_has_no_suffix_and_the_question_keeps_its_own():
    asked = Problem("p1", "what is <think>", "1")
    assert texts({"template": "{question}", "variants": {"v": "!"}}, problems=[asked]) == ["what is <think>!"]


@pytest.mark.parametrize("base", [LITERAL, {}], ids=["literal", "chat"])
def test_tokens_are_the_texts_with_exactly_one_bos(base):
    table, tokenizer = prompts(base), small_tokenizer()
    ids = table["token_ids"][0].as_py()
    assert ids.count(tokenizer.bos_token_id) == 1 and ids[0] == tokenizer.bos_token_id
    assert tokenizer.decode(ids, skip_special_tokens=True) == table["text"][0].as_py().removeprefix("<s>")
    assert table.schema == PROMPTS


def test_a_model_without_bos_gets_none():
    assert prompts(LITERAL, adds_bos=False)["token_ids"][0].as_py()[0] != 0


def test_two_bos_are_refused():
    with pytest.raises(UserError, match=r"one BOS.* got 2"):
        prompts({"template": "<s>{question}"})


def test_a_chat_template_that_forgets_bos_is_refused():
    with pytest.raises(UserError, match="begin with a BOS"):
        prompts({}, chat_template="{{ messages[0].content }}")
    assert prompts({}, chat_template="{{ messages[0].content }}", adds_bos=False).num_rows == 1


def test_variants_that_are_one_prompt_are_refused():
    with pytest.raises(UserError, match="own and same are the same prompt for problem p1"):
        prompts({**LITERAL, "variants": {"own": None, "same": "<think>\n"}})


def test_no_chat_template_is_refused_where_one_is_needed():
    with pytest.raises(UserError, match=r"prompt\.template"):
        prompts({}, chat_template=None)
    assert prompts(LITERAL, chat_template=None).num_rows == 1


def test_length_limits_name_the_problem_and_the_numbers():
    length = len(prompts(LITERAL)["token_ids"][0])
    assert prompts(LITERAL, context=length + 16).num_rows == 1
    with pytest.raises(UserError, match=rf"p1 with {length} prompt tokens \+ 17.*at most 16"):
        prompts(LITERAL, context=length + 16, new=17)
    with pytest.raises(UserError, match=f"p1 with a prompt of {length}"):
        prompts(LITERAL, context=length, new=1)


def test_a_context_that_ends_where_rotary_frequencies_change_says_so():
    length = len(prompts(LITERAL)["token_ids"][0])
    assert prompts(LITERAL, context=length + 16, switch=length + 16).num_rows == 1
    for new, context in ((17, length + 16), (1, length)):
        with pytest.raises(UserError, match=f"the {context} tokens after which this model's rows disturb each other"):
            prompts(LITERAL, context=context, new=new, switch=context)
        with pytest.raises(UserError, match=f"the model's context of {context} tokens"):
            prompts(LITERAL, context=context, new=new, switch=9999)


def test_a_token_without_an_embedding_is_refused_where_a_prompt_holds_it():
    tokenizer = small_tokenizer()
    highest = max(prompts(LITERAL)["token_ids"][0].as_py())
    assert len(tokenizer) > highest + 1  # tokens that no prompt holds do no harm
    assert prompts(LITERAL, rows=highest + 1).num_rows == 1
    with pytest.raises(UserError, match=f"ids below {highest}; got problem p1 with id {highest} .*keep '.' out of"):
        prompts(LITERAL, rows=highest)


def test_a_token_added_beyond_the_embeddings_is_named_as_it_is_written():
    tokenizer = small_tokenizer()
    tokenizer.add_tokens(["<think>"])
    plan = lambda text: plan_prompts((PROBLEM,), Prompt(template=text), tokenizer, 512, 16, 258)  # noqa: E731
    assert plan("{question}").num_rows == 1
    with pytest.raises(UserError, match=r"ids below 258; got problem p1 with id 258 \('<think>'\)"):
        plan("{question}<think>")
