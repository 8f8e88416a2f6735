import subprocess
import sys
from pathlib import Path

import pytest

import raybt.measure

MODULES = sorted(path.stem for path in Path(raybt.measure.__file__).parent.glob("*.py") if path.stem != "__init__")


def test_no_module_loads_torch_or_ray():
    """In a fresh process: this one has them loaded."""
    imports = "; ".join(f"import raybt.measure.{module}" for module in MODULES)
    check = "import sys; assert not {'torch', 'ray'} & set(sys.modules), 'loaded'"
    subprocess.run([sys.executable, "-c", f"{imports}; {check}"], check=True)


@pytest.mark.parametrize("module", MODULES)
def test_no_module_opens_a_file(module):
    source = (Path(raybt.measure.__file__).parent / f"{module}.py").read_text()
    assert not any(call in source for call in ("open(", "read_parquet", "read_csv", "write_table", "pathlib"))
