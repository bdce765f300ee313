"""A page in headless Chromium: what it has drawn, what it complained of, and whether it is wider than the screen."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

CANDIDATES = ("chromium", "chromium-browser", "google-chrome", "chrome")
LISTENER = """<script>
window.complaints = [];
window.addEventListener("error", (event) => complaints.push(String(event.message)));
window.addEventListener("unhandledrejection", (event) => complaints.push(String(event.reason)));
for (const kind of ["error", "warn"]) {
  console[kind] = (...said) => complaints.push(said.join(" "));
}
</script>"""
WITNESS = """<script type="application/json" id="witness"></script><script>
setInterval(() => {
  const root = document.documentElement;
  const places = [...document.querySelectorAll(".chart")];
  const seen = { charts: places.length, drawn: places.filter((place) => place.querySelector("svg.marks path")).length,
    width: window.innerWidth, needed: root.scrollWidth, complaints: window.complaints,
    dark: matchMedia("(prefers-color-scheme: dark)").matches };
  document.getElementById("witness").textContent = JSON.stringify(seen);
}, 200);
</script>"""


def found() -> str | None:
    """The browser of this machine, where there is one."""
    return next((path for name in CANDIDATES if (path := shutil.which(name))), None)


def seen(browser: str, page: Path, folder: Path, width: int, dark: bool) -> dict[str, Any]:
    """What a browser of that width makes of the page, which is copied with two scripts that listen and tell."""
    told = page.read_text()
    told = told.replace("<style>", f"{LISTENER}<style>", 1)
    # The last one: Vega's script holds the word too.
    before, end, after = told.rpartition("</body>")
    told = before + WITNESS + end + after
    copy = folder / f"watched-{width}-{dark}.html"
    copy.write_text(told)
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    command += [f"--user-data-dir={folder / 'profile'}", f"--window-size={width},900"]
    # Blink's own numbers for the two.
    command += [f"--blink-settings=preferredColorScheme={int(not dark)}", "--virtual-time-budget=8000", "--dump-dom"]
    run = subprocess.run([*command, copy.as_uri()], capture_output=True, text=True, timeout=400)
    match = re.search(r'id="witness">(.*?)</script>', run.stdout, re.DOTALL)
    if match is None:
        raise RuntimeError(f"{browser} gave no page: {run.stderr[-500:]}")
    return json.loads(match.group(1))
