"""control/board/static/board.js in Node, with a page that is none."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from control.board import site

PAGE = """
const node = () => ({hidden: false, textContent: "", classList: {toggle() {}}, addEventListener() {}, dataset: {},
  querySelectorAll: () => [], contains: () => false});
const nodes = {}, timers = [], made = [], delays = [];
global.document = {getElementById: (id) => nodes[id] ??= node(), querySelector: () => node(),
  querySelectorAll: () => [], activeElement: null, getSelection: () => null, addEventListener() {}};
global.location = {search: ""};
global.setInterval = () => 0;
global.setTimeout = (done, delay_ms) => { timers.push(done); delays.push(delay_ms); };
global.EventSource = class { constructor() { made.push(this); } close() { this.closed = true; } };
"""
STEPS = """
for (let turn = 0; turn < 10; turn++) { made.at(-1).onerror({}); timers.pop()(); }
const apart = made.slice(0, -1).every((each) => each.closed) && timers.length === 0;
made.at(-1).onmessage({data: '{"now_s": 1, "sections": {}}'});
made.at(-1).onerror({});
console.log(made.length, apart, delays[0] <= 2000, delays[9] >= 30000 && delays[9] <= 60000, delays[10] <= 2000);
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_a_page_that_was_told_503_tries_again_ever_less_often(tmp_path: Path) -> None:
    script = Path(site.__file__).parent / "static" / "board.js"
    (tmp_path / "page.js").write_text(PAGE + f'eval(require("fs").readFileSync("{script}", "utf8"));' + STEPS)
    done = subprocess.run(["node", str(tmp_path / "page.js")], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["11", "true", "true", "true", "true"]
