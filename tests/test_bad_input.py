"""Every mistake that raybt answers for: exit code 2, one line with rule, value and fix, and nothing half-written."""

import json
import os
import socket
import subprocess
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from raybt.fleet.opening import open_run, run_folder
from raybt.load import load_config
from raybt.plan.rows import make_plan
from raybt.store.lock import locked
from tests.commands import raybt, raybt_alone, refusal
from tests.plan.models import model_folder, problem_file, write_settings, write_weights

CONFIG = """\
name: small
artifacts: {folder}/artifacts
model: {{name: {folder}/model}}
problems: {{name: {folder}/problems.jsonl}}
prompt:
  template: "Solve: {{question}} <think>"
  variants: {{own: null, none: ""}}
sampling: {{samples: 2, max_new_tokens: 20}}
interventions:
  subsets:
    late: [mlp.4-5]
    first: [attn.0]
  grids:
    sweep: {{subsets: [late, first], scales: [0, 0.5]}}
"""


@pytest.fixture(autouse=True)
def no_ray(monkeypatch):
    """A mistake must be found before Ray starts."""

    def refuse(*_):
        raise AssertionError("Ray was asked for")

    monkeypatch.setattr("raybt.fleet.cluster.connected", refuse)


@pytest.fixture
def place(tmp_path):
    """A folder with a model of 6 layers and 512 tokens of context, six problems, and c.yaml, a config for both."""
    model_folder(tmp_path / "model")
    problem_file(tmp_path / "problems.jsonl")
    (tmp_path / "c.yaml").write_text(CONFIG.format(folder=tmp_path))
    return tmp_path


@pytest.fixture
def closed_port():
    """A port of this machine that nothing listens at."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def edit(place: Path, old: str, new: str) -> None:
    text = (place / "c.yaml").read_text()
    assert text.count(old) == 1
    (place / "c.yaml").write_text(text.replace(old, new))


def refused(*words, rule: str = "", value: object = "", fix: str = "") -> None:
    """The command is refused, and each part of its line says what it should."""
    parts = refusal(raybt(*words))
    for name, says in (("rule", rule), ("value", str(value)), ("fix", fix)):
        assert says in parts[name], (name, parts[0])


def test_the_config_is_good_before_it_is_edited(place):
    ended = raybt("plan", place / "c.yaml")
    assert (ended.code, ended.err) == (0, "") and "rows planned  120" in " ".join(ended.out.split("   "))
    assert not (place / "artifacts").exists()


EDITS = {
    # unknown or misspelt keys
    "key": ("sampling:", "smapling:", "knows only the keys", "smapling", "did you mean sampling?"),
    "key in a section": ("samples: 2", "sampels: 2", "sampling knows only", "sampling.sampels", "mean samples?"),
    "key in a grid": ("scales: [0", "scale: [0", "sweep knows only", "grids.sweep.scale", "did you mean scales?"),
    "key like no other": ("sampling:", "zzz: 1\nsampling:", "knows only the keys name, seed", "zzz", "remove it"),
    "subset in a grid": ("[late, first]", "[lat, first]", "names subset lat", "", "did you mean late?"),
    # sites
    "site out of range": ("attn.0", "attn.6", "layers 0 to 5", "attn.6", "up to 5"),
    "range out of range": ("mlp.4-5", "mlp.4-27", "layers 0 to 5", "mlp.4-27", "up to 5"),
    "range turned round": ("mlp.4-5", "mlp.5-4", "lower number to the higher", "mlp.5-4", "mlp.4-5"),
    "site of no kind": ("mlp.4-5", "mpl.4", "one of attn, mlp", "mpl.4", "mlp.19"),
    "empty subset": ("[attn.0]", "[]", "subset first is empty", "", "name at least one site"),
    # duplicate names
    "section twice": ("sampling:", "model: {name: x}\nsampling:", "only once", "'model' again at line 8", "remove one"),
    "subset twice": ("first: [attn.0]", "late: [attn.0]", "only once", "'late' again at line 12", "another name"),
    "stage twice": ("  grids:", "  grids:\n    sweep: {subsets: [late]}", "only once", "'sweep' again", "remove one"),
    "site twice": ("[attn.0]", "[attn.0, attn.0]", "only once", "attn.0", "remove the repeats"),
    "scale twice": ("[0, 0.5]", "[0, 0.5, 0.50]", "scales lists a value twice", "", "remove one"),
    "subset twice in a grid": ("[late, first]", "[late, late]", "subsets lists a value twice", "", "remove one"),
    "subset called baseline": ("first: [attn.0]", "baseline: [attn.0]", "the empty intervention", "", "another name"),
    "variants of the same tokens": ('none: ""', 'none: "<think>"', "differ in their tokens", "own and none", "remove"),
    # scales
    "scale is nan": ("0.5]", ".nan]", "finite", "nan", "0 for ablation, 1 for no change"),
    "scale is inf": ("0.5]", ".inf]", "finite", "inf", "0 for ablation"),
    "scale is -inf": ("0.5]", "-.inf]", "finite", "-inf", "0 for ablation"),
    "scale beyond floats": ("0.5]", "1.0e+999]", "finite", "inf", "0 for ablation"),
    "scale is a word": ("0.5]", "half]", "valid number", "half", "scales"),
    # prompt and context
    "template without question": ("{question}", "{problem}", "must contain {question}", "", "add it"),
    "prompt too long": ("Solve:", "Solve it. " * 60, "context of 512", "problem p", "shorten the template"),
    "prompt fits, completion does not": ("max_new_tokens: 20", "max_new_tokens: 500", "512", "= 52", "at most 4"),
    "completion beyond the context": ("max_new_tokens: 20", "max_new_tokens: 9999", "512", "9999 new", "at most 4"),
}


@pytest.mark.parametrize("command", ["plan", "run"])
@pytest.mark.parametrize(("old", "new", "rule", "value", "fix"), EDITS.values(), ids=EDITS)
def test_a_mistake_in_the_config(place, command, old, new, rule, value, fix):
    edit(place, old, new)
    refused(command, place / "c.yaml", rule=rule, value=value, fix=fix)
    assert not (place / "artifacts").exists()


def records(*changes: dict) -> str:
    """Two good problems with changes to each."""
    good = [{"id": "a", "question": "1 + 1?", "answer": "#### 2"}, {"id": "b", "question": "2?", "answer": "2"}]
    return "".join(json.dumps(record | change) + "\n" for record, change in zip(good, changes, strict=True))


FILES = {
    "missing": (None, "must exist", "problems.jsonl", "check the path"),
    "empty": ("", "must not be empty", "problems.jsonl", "another file"),
    "blank lines": ("\n\n", "must not be empty", "problems.jsonl", "another file"),
    "no JSON": ('{"id": "a",\n', "must be JSON", "line 1", "mend that line"),
    "no object": ("[1]\n", "must be a JSON object", "line 1", "mend that line"),
    "no text": (b"\xff\xfe\x00", "must be readable", "problems.jsonl", "replace the file"),
    "other fields": ('{"id": "a", "prompt": "1?"}\n', "must have the fields", "question, answer; there are", "set "),
    "field gone later": (records({}, {"question": None}), "needs a question", "problem b", "add it"),
    "blank question": (records({}, {"question": " "}), "needs a question", "problem b", "add it"),
    "same ids": (records({}, {"id": "a"}), "ids must be unique", "a", "rename them"),
    "same ids, number and text": (records({"id": 1}, {"id": "1"}), "ids must be unique", "1", "rename them"),
    "no id": (records({}, {"id": None}), "needs an id", "record 1", "fields.id to null"),
    "no gold": (records({}, {"answer": None}), "needs a gold answer", "problem b", "add the answer"),
    "empty gold": (records({}, {"answer": "so it is ####  "}), "needs a gold answer", "problem b", "after ####"),
}


@pytest.mark.parametrize("command", ["plan", "run"])
@pytest.mark.parametrize(("content", "rule", "value", "fix"), FILES.values(), ids=FILES)
def test_a_bad_problem_file(place, command, content, rule, value, fix):
    file = place / "problems.jsonl"
    file.unlink()
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(command, place / "c.yaml", rule=rule, value=value, fix=fix)
    assert not (place / "artifacts").exists()


def test_a_bad_parquet_file_and_a_file_of_another_kind(place):
    (place / "p.parquet").write_bytes(b"PAR1")
    (place / "p.csv").write_text("id,question,answer\n")
    for name, rule in (("p.parquet", "must be readable"), ("p.csv", "ends in .jsonl")):
        refused("run", place / "c.yaml", "--set", f"problems.name={place / name}", rule=rule, value=name)


def without(name: str):
    return lambda model: (model / name).unlink()


def pointer(model: Path) -> None:
    (model / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n")


def configured(**settings):
    """Another config.json."""
    return lambda model: write_settings(model, **settings)


def instead(*files: str, of: str = "model.safetensors"):
    """Files in another's place; they begin as JSON does."""

    def change(model: Path) -> None:
        (model / of).unlink()
        for name in files:
            (model / name).write_text('{"base_model_name_or_path": "org/base", "weight_map": {"a": "1.safetensors"}}')

    return change


def cut(model: Path) -> None:
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])


OWN_CODE = {"AutoConfig": "mine.MyConfig", "AutoModelForCausalLM": "mine.MyModel"}
BITS = {"quant_method": "bitsandbytes", "load_in_4bit": True}
LONGROPE = {"type": "longrope", "long_factor": [2.0], "short_factor": [1.0], "original_max_position_embeddings": 40}

MODELS = {
    "no weights": (without("model.safetensors"), "holds weights", "none in", "copy the weights"),
    "a pointer for weights": (pointer, "not Git LFS pointers", "model.safetensors", "git lfs pull"),
    "no config": (without("config.json"), "holds a config.json", "model", "check model.name"),
    "no tokenizer": (without("tokenizer.json"), "needs a fast tokenizer", "model", "tokenizer.json"),
    "torn config": (lambda model: (model / "config.json").write_text("{"), "must be JSON", "config.json", "mend"),
    "no depth": (configured(num_hidden_layers="x"), "num_hidden_layers", "neither", "decoder"),
    "no folder": (lambda model: model.rename(model.with_name("moved")), "a folder that exists", "/model", "check"),
    # weights of another kind
    "an adapter": (instead("adapter_config.json"), "not an adapter", "adapter of org/base", "merge the adapter"),
    "GGUF": (instead("q4.gguf"), "as *.safetensors", "q4.gguf alone", 'gguf_file="q4.gguf"'),
    "a part missing": (instead("model.safetensors.index.json"), "every file", "without 1.safetensors", "fetch what"),
    "no index": (instead("model-1-of-2.safetensors"), "index.json names", "model-1-of-2", "fetch the index"),
    "no safetensors": (instead("model.safetensors"), "must be one", "model.safetensors", "fetch it again"),
    "cut short": (cut, "must be whole", "bytes of", "fetch it again"),
    # models that are no decoders, or none that this transformers knows
    "encoder-decoder": (configured(is_encoder_decoder=True), "must be a decoder", "an encoder-decoder", "decoder-only"),
    "encoder": (configured(architectures=["BertModel"]), "must be a decoder", "BertModel", "decoder-only"),
    "no model_type": (configured(model_type=None), "names its model_type", "none for", "add it"),
    "unknown model_type": (configured(model_type="qwen99"), "model_type", "qwen99", "install a newer transformers"),
    "own code": (configured(model_type="x", auto_map=OWN_CODE), "trust_remote_code", "mine.MyModel", "read that code"),
    # what is not installed here
    "quantised": (configured(quantization_config=BITS), "needs bitsandbytes", "not installed", "pip install bitsandby"),
    "quantised otherwise": (
        configured(quantization_config={"bits": 4}),
        "of a method",
        "as MLX",
        "before quantisation",
    ),
    # tokens and positions
    "slow tokenizer": (instead("vocab.json", of="tokenizer.json"), "fast tokenizer", "vocab.json", "save_pretrained("),
    "no end": (configured(eos_token_id=300), "ends a text", "eos_token_id 300", "correct eos_token_id"),
    "frequencies that switch": (configured(rope_scaling=LONGROPE), "40", "+ 20 new", "let these be at most"),
}


@pytest.mark.parametrize("command", ["plan", "run"])
@pytest.mark.parametrize(("spoil", "rule", "value", "fix"), MODELS.values(), ids=MODELS)
def test_a_bad_model(place, command, spoil, rule, value, fix):
    spoil(place / "model")
    refused(command, place / "c.yaml", rule=rule, value=value, fix=fix)
    assert not (place / "artifacts").exists()


OVERRIDES = {
    "no equals sign": ("sampling.samples", "must read a.b=value", "'sampling.samples'", "for example"),
    "misspelt": ("sampling.sampels=3", "sampling knows only", "sampling.sampels", "did you mean samples?"),
    "no section": ("name.x=3", "a key in a section", "name is no section", "set name itself"),
    "wrong type": ("sampling.samples=many", "valid integer", "'many'", "sampling.samples"),
    "name that is no file name": ("name=../demo", "letters, digits", "../demo", "rename it"),
    "markup and emoji": ("name=[bold]:smile:", "letters, digits", "[bold]:smile:", "rename it"),
}


@pytest.mark.parametrize(("override", "rule", "value", "fix"), OVERRIDES.values(), ids=OVERRIDES)
def test_a_bad_override(place, override, rule, value, fix):
    edit(place, "small", "other")  # the file's own name is good
    words = override if override != "name=[bold]:smile:" else "name='[bold]:smile:'"
    refused("plan", place / "c.yaml", "--set", words, rule=rule, value=value, fix=fix)


@pytest.mark.parametrize("command", ["run", "plan", "submit"])
@pytest.mark.parametrize("content", [None, "", "- 1\n", "name: [\n"], ids=["missing", "empty", "a list", "no YAML"])
def test_what_is_no_config_is_refused_by_every_command_that_takes_one(tmp_path, command, content):
    if content is not None:
        (tmp_path / "c.yaml").write_text(content)
    refused(command, tmp_path / "c.yaml", rule="a config must be", value="c.yaml")


@pytest.mark.parametrize("command", ["status", "report"])
def test_what_is_no_run_has_neither_status_nor_report(tmp_path, command):
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "none", tmp_path / "file"):
        refused(command, path, rule="holds manifest.json", value=path, fix="for example artifacts/demo")


# ---- a run that has begun ----


@pytest.fixture
def begun(place):
    """The same place with a run begun in it, as `raybt run` leaves it when it is killed before its first row."""
    plan = make_plan(load_config(place / "c.yaml"))
    folder = run_folder(plan)
    with locked(folder):
        open_run(plan, folder)
    return place


def contents(place: Path) -> dict[str, bytes]:
    """Every file under artifacts, hidden ones too."""
    return {str(path): path.read_bytes() for path in (place / "artifacts").rglob("*") if path.is_file()}


def other_weights(place: Path) -> None:
    write_weights(place / "model" / "model.safetensors", 1.0)


def other_question(place: Path) -> None:
    file = place / "problems.jsonl"
    file.write_text(file.read_text().replace("3 + 1?", "1 + 3?"))


KEY_CHANGES = {
    "temperature": (("samples: 2", "samples: 2, temperature: 0.9"), "sampling.temperature: 0.7 -> 0.9"),
    "top_p": (("samples: 2", "samples: 2, top_p: 0.5"), "sampling.top_p: 1.0 -> 0.5"),
    "greedy": (("samples: 2", "samples: 1, greedy: true"), "sampling.greedy: False -> True"),
    "length": (("tokens: 20", "tokens: 30"), "sampling.max_new_tokens: 20 -> 30"),
    "seed": (("name: small", "name: small\nseed: 1"), "seed: 0 -> 1"),
    "template": (("Solve:", "Do:"), "prompt.template: 'Solve"),
    "variant": (('none: ""', 'none: "<think> Hm"'), "prompt.variants.none: '' -> '<think> Hm'"),
    "sites of a subset": (("mlp.4-5", "mlp.3-5"), "interventions.subsets.late: ['mlp.4-5'] -> ['mlp.3-5']"),
    "positions": (("scales:", "positions: generated, scales:"), "sweep.positions: 'decode' -> 'generated'"),
    "weights": (other_weights, "model fingerprint: 'local:"),
    "question": (other_question, "prompt own of problem p3 (other tokens)"),
}


@pytest.mark.parametrize(("change", "says"), KEY_CHANGES.values(), ids=KEY_CHANGES)
def test_a_key_changing_edit_of_a_run(begun, change, says):
    before = contents(begun)
    change(begun) if callable(change) else edit(begun, *change)
    refused(
        "run", begun / "c.yaml", rule="run small has begun", value=says, fix="start another run with --set name=small-2"
    )
    assert contents(begun) == before


def test_every_key_changing_field_is_named(begun):
    edit(begun, "samples: 2", "samples: 3, temperature: 0.9, top_k: 5")
    ended = raybt("run", begun / "c.yaml")
    assert "temperature" in refusal(ended)["value"] and "top_k" in ended.err and "samples" not in ended.err


def test_a_mistake_leaves_a_run_as_it_was(begun):
    before = contents(begun)
    edit(begun, "attn.0", "attn.9")
    refused("run", begun / "c.yaml", value="attn.9")
    assert contents(begun) == before


def test_a_run_in_use_is_left_alone(begun):
    with locked(run_folder(make_plan(load_config(begun / "c.yaml")))):
        before = contents(begun)
        refused("run", begun / "c.yaml", rule="one raybt at a time", value="artifacts/small is in use", fix="wait")
        assert contents(begun) == before


@pytest.mark.parametrize("command", ["run", "status", "report"])
def test_a_manifest_that_is_not_whole(begun, command):
    manifest = begun / "artifacts" / "small" / "manifest.json"
    manifest.write_bytes(manifest.read_bytes()[:100])
    before = contents(begun)
    words = begun / "c.yaml" if command == "run" else manifest.parent
    refused(command, words, rule="manifest.json must be as raybt wrote it", value="artifacts/small", fix="restore it")
    assert contents(begun) == before


def test_a_run_without_tables_has_no_report(begun):
    before = contents(begun)
    refused("report", begun / "artifacts" / "small", rule="drawn from a run's tables", fix="raybt run CONFIG")
    assert contents(begun) == before


# ---- folders and disks ----


def test_a_folder_below_a_file_cannot_be_written(place):
    (place / "artifacts").write_text("a file")
    refused("run", place / "c.yaml", rule="can be written", value="artifacts/small", fix="set artifacts")
    assert (place / "artifacts").read_text() == "a file"


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a /proc")
def test_a_folder_that_nobody_can_write(place):
    words = ["--set", "artifacts=/proc/raybt"]
    refused("run", place / "c.yaml", *words, rule="can be written", value="/proc/raybt/small", fix="set artifacts")


def test_a_kind_of_storage_that_is_not_known(place):
    words = ["--set", "artifacts=ftp://host/runs"]
    refused("run", place / "c.yaml", *words, rule="can be written", value="ftp://host/runs/small", fix="set artifacts")


@pytest.mark.parametrize("command", ["plan", "status"])
def test_storage_that_cannot_be_reached(place, closed_port, command, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "none")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "none")
    root = f"s3://bucket/runs?endpoint_override=127.0.0.1:{closed_port}&scheme=http&region=us-east-1"
    words = [root] if command == "status" else [place / "c.yaml", "--set", f"artifacts={root}"]
    refused(command, *words, rule="can be reached", value="s3://bucket/runs", fix="the network")


@pytest.fixture
def disk(place):
    """Mounts a small file system of its own at artifacts; `disk("remount,size=1m")` changes it."""
    target = place / "artifacts"
    target.mkdir()

    def mount(options: str) -> None:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(target)]
        if subprocess.run(command, capture_output=True).returncode:
            pytest.skip("mounting needs root")

    yield mount
    subprocess.run(["umount", str(target)], capture_output=True)


def test_a_read_only_disk(place, disk):
    disk("size=1m,ro")
    refused("run", place / "c.yaml", rule="can be written", value="Read-only", fix="set artifacts")
    assert contents(place) == {}


@pytest.mark.parametrize("kilobytes", [4, 8, 12, 16])
def test_a_full_disk_holds_whole_files_and_no_run(place, disk, kilobytes):
    """Nowhere on the way does the run begin; on a larger disk the same command would."""
    disk(f"size={kilobytes}k")
    refused("run", place / "c.yaml", rule="disk space", value="artifacts/small", fix="run the same command")
    left = [path for path in map(Path, contents(place)) if path.name != ".lock"]
    assert not {path.name for path in left} & {"manifest.json"} and not any(path.suffix == ".tmp" for path in left)
    for path in left:
        pq.read_table(path) if path.suffix == ".parquet" else yaml.safe_load(path.read_text())
    disk("remount,size=1m")
    plan = make_plan(load_config(place / "c.yaml"))
    open_run(plan, run_folder(plan))
    assert "missing" in raybt("status", place / "artifacts" / "small").out


def test_a_disk_that_fills_leaves_a_run_as_it_was(begun, tmp_path, monkeypatch):
    """Rows are added to the run's config; the device under it is full."""
    if not os.path.exists("/dev/full"):
        pytest.skip("needs a device that is always full")
    before, plain = contents(begun), os.fsync

    def fill(handle):
        with open("/dev/full", "wb", buffering=0) as full:
            full.write(b"1")
        plain(handle)

    monkeypatch.setattr(os, "fsync", fill)
    edit(begun, "0.5]", "0.5, 0.75]")
    refused("run", begun / "c.yaml", rule="disk space", value="artifacts/small", fix="run the same command")
    assert contents(begun) == before


# ---- the cluster, and the command itself ----


def test_submitting_where_no_cluster_listens(place, closed_port):
    address = f"http://127.0.0.1:{closed_port}"
    says = {"rule": "the Ray job server must answer", "value": address, "fix": "start one (ray start --head)"}
    refused("submit", place / "c.yaml", "--address", address, **says)
    assert not (place / "artifacts").exists()


def test_submitting_takes_the_address_from_the_environment(place, closed_port, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", f"http://127.0.0.1:{closed_port}")
    refused("submit", place / "c.yaml", value=f"127.0.0.1:{closed_port}")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["rum"], "No such command"),
        (["run"], "Missing argument 'CONFIG'"),
        (["plan"], "Missing argument 'CONFIG'"),
        (["status"], "Missing argument 'RUN'"),
        (["plan", "c.yaml", "--sett", "a=b"], "No such option"),
        (["plan", "c.yaml", "--set"], "requires an argument"),
    ],
    ids=" ".join,
)
def test_a_command_that_is_not_one(words, says):
    ended = raybt(*words)
    assert ended.code == 2 and says in ended.err and "Traceback" not in ended.err and not ended.out


# ---- in a process of its own, as the shell starts it ----


@pytest.mark.parametrize("width", ["30", "200"])
def test_the_line_stays_one_line_on_any_terminal(place, width):
    edit(place, "samples: 2", "sampels: 2")
    ended = raybt_alone("plan", place / "c.yaml", env={**os.environ, "COLUMNS": width})
    assert refusal(ended)["fix"] == "did you mean samples?"


def test_a_mistake_found_by_run_starts_no_ray_and_leaves_no_folder(place):
    edit(place, "attn.0", "attn.6")
    told = "print(sys.modules.get('ray') is not None and sys.modules['ray'].is_initialized())"
    ended = raybt_alone("run", place / "c.yaml", then=told, cwd=place)
    assert (ended.code, ended.out) == (2, "False\n") and ended.err.startswith("raybt: a site must be in the model")
    assert ended.err.count("\n") == 1 and not (place / "artifacts").exists()
