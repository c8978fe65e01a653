"""A file is written whole or not at all, also where other programs or the disk are in the way."""

import errno
import os
import time
from unittest.mock import DEFAULT, Mock

import files

import pytest


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A file with content, in a folder of its own; a pause takes no time."""
    monkeypatch.setattr(files.time, "sleep", lambda seconds: None)
    path = tmp_path / "metrics.csv"
    path.write_bytes(b"old")
    return path


def test_a_file_that_another_program_holds_for_a_moment_is_written(path, monkeypatch):
    held = [PermissionError(errno.EACCES, "Permission denied")] * 15
    monkeypatch.setattr(os, "replace", Mock(wraps=os.replace, side_effect=[*held, DEFAULT]))
    files.write_whole(path, b"new")
    assert [file.read_bytes() for file in path.parent.iterdir()] == [b"new"]


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOSPC])
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_an_error_names_the_file_and_leaves_its_old_content(path, monkeypatch, step, number):
    """Also where removing the temporary file fails, too."""
    error = OSError(number, os.strerror(number), "a.tmp", None, "b.tmp")
    monkeypatch.setattr(os, step, Mock(side_effect=error))
    for files_left in (1, 2):
        with pytest.raises(OSError) as caught:
            files.write_whole(path, b"new")
        assert caught.value is error and error.filename == str(path) and ".tmp" not in str(error)
        assert path.read_bytes() == b"old" and len(os.listdir(path.parent)) == files_left
        monkeypatch.setattr(files.Path, "unlink", Mock(side_effect=PermissionError()))


@pytest.mark.skipif(os.name != "posix", reason="folders are flushed on POSIX alone")
@pytest.mark.parametrize("step", ["open", "fsync"])
def test_a_folder_that_cannot_be_flushed_is_no_error(path, monkeypatch, step):
    real = getattr(os, step)

    def fails_for_folders(what, *rest):
        if os.path.isdir(what):  # a path, or the number of an open folder
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(what, *rest)

    monkeypatch.setattr(os, step, fails_for_folders)
    files.write_whole(path, b"new")
    assert path.read_bytes() == b"new"


def test_only_old_leftovers_of_the_same_file_are_removed(path):
    ages = {".metrics.csv.1.tmp": 2, ".metrics.csv.2.tmp": 0, ".steps.csv.1.tmp": 2}
    for name, hours in ages.items():
        path.with_name(name).touch()
        os.utime(path.with_name(name), (0, time.time() - hours * files.HOUR))
    files.write_whole(path, b"new")
    assert {*os.listdir(path.parent)} == {"metrics.csv", ".metrics.csv.2.tmp", ".steps.csv.1.tmp"}
