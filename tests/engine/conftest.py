import json

import pytest
import torch

from raybt.toy import PROBLEMS_FILE

torch.set_num_threads(1)  # small models, and tests beside them


@pytest.fixture(scope="session")
def prompts(tokenizer):
    """Eight prompts of the shipped problems, as token ids of different lengths."""
    problems = [json.loads(line) for line in PROBLEMS_FILE.read_text().splitlines()[:8]]
    texts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": problem["question"]}], tokenize=False, add_generation_prompt=True
        )
        for problem in problems
    ]
    return [tuple(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]
