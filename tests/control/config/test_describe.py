"""control/config/config.py: every key is described, and has a row in the table of docs/configuration.md."""

from control.config import config

KEYS = [(section, key) for section, key in config._keys()]


def test_describe_has_one_row_for_each_key() -> None:
    lines = config.describe().splitlines()
    assert lines[0] == "| key | value | default | restart | meaning |"
    assert [line.split("`")[1] for line in lines[2:]] == [f"{section}.{key.name}" for section, key in KEYS]
    assert all(line.replace("\\|", "").count("|") == 6 for line in lines)
    assert "| `dhcp.port` | a whole number 1..65535 | `67` | yes | UDP port to serve on |" in lines
    assert "`<dhcp.state_dir>/control.sock`" in config.describe()


def test_every_key_is_documented() -> None:
    for section, key in KEYS:
        about = key.metadata
        assert about["doc"] and about["check"].wanted, f"{section}.{key.name}"
