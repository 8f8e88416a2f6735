"""The engine without Ray: the example of docs/engine.md, run as it stands there."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_documents_example_prints_who_parted_from_whom_and_where():
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "engine.md").read_text(), re.DOTALL)
    program += "\nimport sys; assert 'ray' not in sys.modules and len(done) == 30"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=200, cwd=ROOT)
    assert ran.returncode == 0, ran.stderr[-2000:]
    lines = ran.stdout.splitlines()
    assert len(lines) == 20 and all(
        re.fullmatch(r"(no mlp\.3|half attn\.4), draw \d: parts from the baseline at token (\d+|None)", line)
        for line in lines
    )
    assert sum("None" not in line for line in lines) > 10
