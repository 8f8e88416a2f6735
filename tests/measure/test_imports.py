import subprocess
import sys
from pathlib import Path

import pytest

import raybt.measure

HERE = Path(raybt.measure.__file__).parent
FILES = [path for path in HERE.rglob("*.py") if path.stem != "__init__"]
MODULES = sorted(".".join(path.relative_to(HERE).with_suffix("").parts) for path in FILES)


def test_no_module_loads_torch_or_ray():
    """In a fresh process: this one has them loaded."""
    imports = "; ".join(f"import raybt.measure.{module}" for module in MODULES)
    check = "import sys; assert not {'torch', 'ray'} & set(sys.modules), 'loaded'"
    subprocess.run([sys.executable, "-c", f"{imports}; {check}"], check=True)


@pytest.mark.parametrize("module", MODULES)
def test_no_module_opens_a_file(module):
    source = HERE.joinpath(*module.split(".")).with_suffix(".py").read_text()
    assert not any(call in source for call in ("open(", "read_parquet", "read_csv", "write_table", "pathlib"))
