"""The page in a real browser, where one is installed: nothing on the console, nothing wider than a phone."""

import re
import shutil
import subprocess
from html import escape

import pytest

from raybt.report import render

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--enable-logging=stderr", "--virtual-time-budget=10000",
)  # fmt: skip
PHONE = 400  # CSS pixels; a frame is this narrow, a headless window is not

# The report forbids scripts, so the page around it measures. A srcdoc frame shares its origin.
AROUND = """<!DOCTYPE html><body>
<iframe id="report" width="{width}" height="3000" style="border:0" srcdoc="{report}"></iframe>
<script>onload = () => {{
  const page = document.getElementById("report").contentDocument;
  const broken = [...page.images].filter(image => !image.naturalWidth).length;
  document.body.dataset.measured = [page.documentElement.scrollWidth, broken, page.images.length].join(" ");
}}</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
@pytest.mark.timeout(60)
def test_page_fits_a_phone_and_says_nothing_on_the_console(many, tmp_path):
    assert CHROMIUM
    report = render(many)["report.html"].decode()
    around = tmp_path / "around.html"
    around.write_text(AROUND.format(width=PHONE, report=escape(report)))
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", around.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=True)
    measured = re.search(r'data-measured="(\d+) (\d+) (\d+)"', done.stdout)
    assert measured, done.stderr[-2000:]
    width, broken, pictures = map(int, measured.groups())
    assert width <= PHONE
    assert broken == 0 and pictures == 3
    assert "CONSOLE" not in done.stderr
