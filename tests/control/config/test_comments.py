"""Comments of services.conf: whole lines, so that what is said of the others' places holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from control.config.comments import without_comments
from control.config.config import ConfigFaults, parse


def test_comments_are_whole_lines_and_keep_the_others_where_they_are() -> None:
    text = '# one\n{"a": "x # y // z", // no\n\t// two\n  #three\r\n"b": 1}'
    assert without_comments(text) == '\n{"a": "x # y // z", // no\n\n\n"b": 1}'


def test_a_file_with_comments_is_accepted() -> None:
    config = parse(b'# ours\n{\n# "dhcp": {"port": 0},\n"dhcp": {\n  // 1\n"port": 1067}}\n#', Path("services.conf"))
    assert config.dhcp.port == 1067


def test_a_fault_below_a_comment_is_told_at_its_line() -> None:
    with pytest.raises(ConfigFaults, match="line 3 column 1: not JSON"):
        parse(b"# a comment\n{\n!}", Path("services.conf"))
