"""A journal is read back as it was written, whatever became of its writer."""

from moxin_vla.core.journal import append_row, read_rows, write_rows


def test_rows_come_back_in_order(tmp_path):
    file = tmp_path / "journal.jsonl"
    assert read_rows(file) == []
    append_row(file, {"step": 1})
    append_row(file, {"step": 2, "loss": 0.5})
    assert read_rows(file) == [{"step": 1}, {"step": 2, "loss": 0.5}]
    write_rows(file, read_rows(file)[:1])
    append_row(file, {"step": 2})
    assert read_rows(file) == [{"step": 1}, {"step": 2}]


def test_a_torn_last_row_is_left_out(tmp_path):
    file = tmp_path / "journal.jsonl"
    file.write_text('{"step": 1}\n{"step": 2, "lo', encoding="utf-8")
    assert read_rows(file) == [{"step": 1}]
    append_row(file, {"step": 2})
    assert read_rows(file) == [{"step": 1}, {"step": 2}]
    file.write_text('{"st', encoding="utf-8")
    assert read_rows(file) == []
