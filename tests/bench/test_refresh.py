"""bench refresh's figures of the invariant: measured on a table of the size that is named, and shown."""

from bench.refresh import invariant, show


def test_what_the_invariant_costs_is_measured_and_shown() -> None:
    found = invariant(2_000, changed=100, turns=2)
    assert found["check_rows"] == 100 and found["check_ms"] > 0 and found["index_ms"] > 0 and found["seal_ms"] > 0
    stages = {"stages_s": {}, "total_s": 1.0}
    names = ("first", "full_change", "no_change")
    record = dict.fromkeys(names, stages) | {
        "hosts": 2_000,
        "inventory": "file",
        "table_bytes_a_host": 87,
        "memory_mb": {},
    }
    lines = list(
        show(record | {"invariant": {"index_ms": 71.25, "check_ms": 0.456, "seal_ms": 1.234, "check_rows": 1000}})
    )
    said = "no address twice: index of a base 71.2 ms, check of 1,000 rows 0.46 ms, sealing them with their numbers "
    assert f"    {said}1.23 ms" in lines
