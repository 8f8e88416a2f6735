"""What the installed transformers can load, read from its source: importing those files would load torch.

A set that comes back empty means that this transformers keeps it elsewhere, and says nothing about a model.
"""

import ast
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import transformers

VERSION: str = transformers.__version__
_ROOT = Path(transformers.__file__).parent
_SUM = (ast.BinOp, ast.operator, ast.Constant)


@cache
def model_types() -> frozenset[str]:
    """Every model_type with a config class."""
    return _keys("CONFIG_MAPPING_NAMES", "models/auto/configuration_auto.py", "models/auto/auto_mappings.py")


@cache
def decoders() -> frozenset[str]:
    """Every model_type that AutoModelForCausalLM can load."""
    return _keys("MODEL_FOR_CAUSAL_LM_MAPPING_NAMES", "models/auto/modeling_auto.py")


@cache
def quantisations() -> frozenset[str]:
    """Every quant_method with a quantiser; a model with another is loaded as if it were not quantised."""
    return _keys("AUTO_QUANTIZER_MAPPING", "quantizers/auto.py")


@cache
def config_class(model_type: str) -> tuple[dict[str, Any], dict[str, str]]:
    """(defaults of a model_type's config class, its attribute_map); many published config.json leave defaults out."""
    says = f'model_type = "{model_type}"'
    for path in sorted(_ROOT.glob("models/*/configuration_*.py")):
        text = path.read_text(encoding="utf-8")
        classes = [node for node in ast.parse(text).body if isinstance(node, ast.ClassDef)] if says in text else []
        for node in classes:
            if _is(node, says):
                fields = dict(_fields(node))
                return fields, fields.get("attribute_map", {})
    return {}, {}


def _keys(table: str, *files: str) -> frozenset[str]:
    """Keys that a table of string keys is made from and updated with, in any of these files."""
    there = [_ROOT / file for file in files if (_ROOT / file).is_file()]
    statements = [node for path in there for node in ast.parse(path.read_text(encoding="utf-8")).body]
    return frozenset(key for node in statements if _fills(node, table) for key in _literal_keys(node))


def _fills(node: ast.stmt, table: str) -> bool:
    """`table = ...`, `table: kind = ...` or `table.update(...)`."""
    match node:
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            return name == table
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="update"))):
            return name == table
    return False


def _literal_keys(node: ast.stmt) -> Iterator[str]:
    """Keys of every dict and of every list of pairs in a statement."""
    for part in ast.walk(node):
        pairs = part.elts if isinstance(part, ast.List) else []
        keys = (
            part.keys if isinstance(part, ast.Dict) else [pair.elts[0] for pair in pairs if isinstance(pair, ast.Tuple)]
        )
        yield from (key.value for key in keys if isinstance(key, ast.Constant) and isinstance(key.value, str))


def _is(node: ast.ClassDef, says: str) -> bool:
    return any(ast.unparse(line).replace("'", '"') == says for line in node.body)


def _fields(node: ast.ClassDef) -> Iterator[tuple[str, Any]]:
    """Names and literal values of a config class: fields of its body, or defaults of its __init__."""
    for line in node.body:
        match line:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                yield from _literal(name, value)
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                yield from _literal(name, value)
            case ast.FunctionDef(name="__init__", args=args):
                named = args.args[len(args.args) - len(args.defaults) :]
                for argument, value in zip(named, args.defaults, strict=True):
                    yield from _literal(argument.arg, value)


def _literal(name: str, value: ast.expr) -> Iterator[tuple[str, Any]]:
    if isinstance(value, ast.BinOp) and all(isinstance(part, _SUM) for part in ast.walk(value)):
        yield name, eval(ast.unparse(value))  # 4096 * 32
    with suppress(ValueError):  # made by a call, say; not a number that planning needs
        yield name, ast.literal_eval(value)
