"""What is read from transformers' source is what transformers itself holds once it is imported."""

import pytest
import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING

from raybt.plan import known
from raybt.plan.model_settings import PACKAGES


def test_the_tables_are_transformers_own():
    assert known.model_types() == set(CONFIG_MAPPING_NAMES)
    assert known.decoders() == set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    assert known.quantisations() == set(AUTO_QUANTIZER_MAPPING)


def test_every_method_that_needs_a_package_is_one_of_transformers():
    assert set(PACKAGES) <= {name.removesuffix("_4bit") for name in AUTO_QUANTIZER_MAPPING}


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("Gemma3TextConfig", ["num_hidden_layers", "num_attention_heads", "max_position_embeddings", "vocab_size"]),
        ("Llama4TextConfig", ["num_hidden_layers", "num_attention_heads", "max_position_embeddings", "vocab_size"]),
        ("Phi3Config", ["original_max_position_embeddings", "num_hidden_layers"]),
        ("GPT2Config", ["num_hidden_layers", "num_attention_heads", "max_position_embeddings", "vocab_size"]),
        ("MptConfig", ["num_hidden_layers", "num_attention_heads"]),
    ],
)
def test_defaults_are_those_of_the_config_class(name, keys):
    config = getattr(transformers, name)()
    defaults, renamed = known.config_class(config.model_type)
    for key in keys:
        assert defaults[renamed.get(key, key)] == getattr(config, key)


def test_a_model_type_that_nobody_knows_has_no_defaults():
    assert known.config_class("none of these") == ({}, {})


@pytest.mark.parametrize(
    "source",
    [
        'TABLE = OrderedDict[str, str]([("a", "A"), ("b", "B")])',
        'TABLE: dict = {"a": A}\nOTHER = {"c": C}\nTABLE.update({"b": B})',
        'TABLE = OrderedDict(**{"a": A}, **MORE)\nif x:\n    pass\nTABLE.update([("b", ("B", None))])',
    ],
)
def test_a_table_is_read_in_every_way_it_is_written(tmp_path, monkeypatch, source):
    (tmp_path / "auto.py").write_text(source)
    monkeypatch.setattr(known, "_ROOT", tmp_path)
    assert known._keys("TABLE", "auto.py", "not_here.py") == {"a", "b"}
    assert known._keys("ELSEWHERE", "auto.py") == set()
