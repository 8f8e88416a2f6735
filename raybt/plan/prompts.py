"""Problems x variants -> prompts: the text that the model reads and its tokens.

A literal template is the prompt as written (`{question}` filled in, system text before it) and is encoded with the
tokenizer's special tokens. A chat template writes its special tokens into the text, so that text is encoded without
adding them again. A variant replaces the think suffix (`<think>` and the white space after it) that a prompt ends in.
"""

import re
from collections.abc import Callable, Sequence

import pyarrow as pa
from transformers import PreTrainedTokenizerFast

from raybt.config import Prompt
from raybt.errors import UserError
from raybt.plan.problems import Problem
from raybt.store.schemas import PROMPTS

_THINK_SUFFIX = re.compile(r"<think>\s*\Z")

TokenIds = list[list[int]]


def plan_prompts(
    problems: Sequence[Problem],
    prompt: Prompt,
    tokenizer: PreTrainedTokenizerFast,
    context_length: int,
    max_new_tokens: int,
    vocab_size: int | None = None,
    switch: int | None = None,
) -> pa.Table:
    """Every problem under every variant, the variants of a problem side by side; schema PROMPTS.

    Args:
        vocab_size: rows of the model's embedding table, None where that is not known.
        switch: `ModelFacts.switch`, for an error to say why the context is no longer.

    Raises:
        UserError: the model has no chat template where one is needed, two variants give the same tokens, a prompt does
            not begin with exactly one BOS where it should or holds a token that the model lacks, or prompt and
            completion exceed the context.
    """
    render = _renderer(prompt, tokenizer)
    asked = [(variant, problem) for problem in problems for variant in prompt.variants]
    texts = [render(problem.question, prompt.variants[variant]) for variant, problem in asked]
    token_ids = encode(texts, tokenizer, chat=prompt.uses_chat)
    columns = {
        "variant": [variant for variant, _ in asked],
        "problem": [problem.id for _, problem in asked],
        "question": [problem.question for _, problem in asked],
        "gold": [problem.gold for _, problem in asked],
        "text": texts,
        "token_ids": token_ids,
    }
    _check_variants_differ(columns["problem"], columns["variant"], token_ids)
    _check_known(columns["problem"], token_ids, tokenizer, vocab_size)
    _check_lengths(columns["problem"], token_ids, context_length, max_new_tokens, context_length == switch)
    return pa.table(columns, schema=PROMPTS)


def encode(texts: Sequence[str], tokenizer: PreTrainedTokenizerFast, chat: bool) -> TokenIds:
    """Rendered texts -> token ids, with BOS exactly once where the model wants one."""
    token_ids: TokenIds = tokenizer(list(texts), add_special_tokens=not chat, verbose=False)["input_ids"]
    wants_bos = _adds_bos(tokenizer)
    for text, ids in zip(texts, token_ids, strict=True):
        _check_bos(text, ids, tokenizer, wants_bos)
    return token_ids


def _renderer(prompt: Prompt, tokenizer: PreTrainedTokenizerFast) -> Callable[[str, str | None], str]:
    """(question, variant's suffix) -> text."""
    if not prompt.uses_chat:
        return lambda question, suffix: _literal(prompt, question, suffix)
    if not tokenizer.chat_template:
        raise UserError(
            "prompt.template is needed for a model without a chat template",
            tokenizer.name_or_path,
            "set prompt.template, and prompt.chat to false",
        )
    return lambda question, suffix: _with_suffix(_chat(prompt, question, tokenizer), suffix)


def _literal(prompt: Prompt, question: str, suffix: str | None) -> str:
    # The suffix goes first: a question that happens to end in <think> keeps it.
    template = _with_suffix(prompt.template or "{question}", suffix)
    system = "" if prompt.system is None else f"{prompt.system}\n\n"
    return system + template.replace("{question}", question)  # not format: questions hold braces


def _chat(prompt: Prompt, question: str, tokenizer: PreTrainedTokenizerFast) -> str:
    turn = (prompt.template or "{question}").replace("{question}", question)
    messages = [] if prompt.system is None else [{"role": "system", "content": prompt.system}]
    messages.append({"role": "user", "content": turn})
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert isinstance(text, str), "one conversation gives one text"
    return text


def _with_suffix(text: str, suffix: str | None) -> str:
    return text if suffix is None else _THINK_SUFFIX.sub("", text) + suffix


def _adds_bos(tokenizer: PreTrainedTokenizerFast) -> bool:
    """Whether the tokenizer itself puts BOS before a text."""
    ids = tokenizer("", add_special_tokens=True)["input_ids"]
    return tokenizer.bos_token_id is not None and ids[:1] == [tokenizer.bos_token_id]


def _check_bos(text: str, ids: list[int], tokenizer: PreTrainedTokenizerFast, wants_bos: bool) -> None:
    bos = tokenizer.bos_token_id
    if bos is None:
        return
    leading = next((place for place, token in enumerate(ids) if token != bos), len(ids))
    if leading > 1:
        fix = f"remove {tokenizer.bos_token} from prompt.template; the tokenizer adds it"
        raise UserError("a prompt begins with one BOS token", f"{leading} in {text[:40]!r}", fix)
    if wants_bos and leading == 0:
        fix = "set prompt.template and prompt.chat: false, or add {{ bos_token }} to the model's chat template"
        raise UserError("this model's prompts begin with a BOS token", f"none in {text[:40]!r}", fix)


def _check_variants_differ(problems: Sequence[str], variants: Sequence[str], token_ids: TokenIds) -> None:
    seen: dict[tuple[str, tuple[int, ...]], str] = {}
    for problem, variant, ids in zip(problems, variants, token_ids, strict=True):
        twin = seen.setdefault((problem, tuple(ids)), variant)
        if twin != variant:
            raise UserError(
                "two prompt variants must differ in their tokens",
                f"{twin} and {variant} are the same prompt for problem {problem}",
                f"remove {variant}, or change its text under prompt.variants",
            )


def _check_known(
    problems: Sequence[str], token_ids: TokenIds, tokenizer: PreTrainedTokenizerFast, vocab_size: int | None
) -> None:
    """A tokenizer may know tokens that its model has no embedding for; only those in use do harm."""
    for problem, ids in zip(problems, token_ids, strict=True):
        unknown = max(ids, default=0)
        if vocab_size is not None and unknown >= vocab_size:
            token = tokenizer.decode([unknown])
            raise UserError(
                f"a prompt holds tokens that the model has embeddings for, ids below {vocab_size}",
                f"problem {problem} with id {unknown} ({token!r})",
                f"keep {token!r} out of prompt and chat template, or use the tokenizer that belongs to the model",
            )


def _check_lengths(problems: Sequence[str], token_ids: TokenIds, context: int, new: int, switches: bool) -> None:
    longest, problem = max((len(ids), problem) for ids, problem in zip(token_ids, problems, strict=True))
    place = f"the model's context of {context} tokens"
    if switches:
        place = f"the {context} tokens after which this model's rows disturb each other (docs/models.md)"
    if longest >= context:
        raise UserError(
            f"a prompt must leave room in {place}",
            f"problem {problem} with a prompt of {longest} tokens",
            "shorten the template, or leave that problem out",
        )
    if longest + new > context:
        raise UserError(
            f"prompt and sampling.max_new_tokens, with a continuation stage's on top, must fit in {place}",
            f"problem {problem} with {longest} prompt tokens + {new} new = {longest + new}",
            f"let these be at most {context - longest} together",
        )
