"""A file that was put in place is there after a power cut, and so are the folders it lies in."""

from moxin_vla.recording import files


def test_every_folder_that_lists_something_new_is_flushed(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr(files, "flush", flushed.append)
    (tmp_path / "staged").write_text("rows")
    files.put(tmp_path / "staged", tmp_path / "data" / "chunk-000" / "file")
    assert flushed == [tmp_path / "data" / "chunk-000", tmp_path / "data", tmp_path]
    (tmp_path / "staged").write_text("more")
    files.put(tmp_path / "staged", tmp_path / "data" / "chunk-000" / "file")
    assert flushed[3:] == [tmp_path / "data" / "chunk-000"]
    assert (tmp_path / "data" / "chunk-000" / "file").read_text() == "more"
