"""A file is written whole or not at all, also where other programs or the disk are in the way."""

import errno
import os
import time

import files

import pytest


def failing(times, number, real=None):
    """A function that fails so many times with an error of the system, and then works."""
    calls = []

    def function(*arguments, **named):
        calls.append(arguments)
        if len(calls) <= times:
            raise OSError(number, os.strerror(number), str(arguments[0]))
        return real(*arguments, **named)

    return function


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A file with content, in a folder of its own; a pause takes no time, but the clock goes on."""
    clock = [0.0]
    monkeypatch.setattr(files.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(files.time, "sleep", lambda seconds: clock.append(clock.pop() + seconds))
    path = tmp_path / "metrics.csv"
    path.write_bytes(b"old")
    return path


def test_a_file_that_another_program_holds_for_a_moment_is_written(path, monkeypatch):
    monkeypatch.setattr(os, "replace", failing(15, errno.EACCES, os.replace))
    files.write_whole(path, b"new")
    assert [file.read_bytes() for file in path.parent.iterdir()] == [b"new"]


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_an_error_names_the_file_and_leaves_its_old_content(path, monkeypatch, step, number):
    """Also where removing the temporary file fails, too."""
    monkeypatch.setattr(os, step, failing(999, number))
    for files_left in (1, 2):
        with pytest.raises(OSError) as caught:
            files.write_whole(path, b"new")
        error = caught.value
        assert (error.errno, error.filename) == (number, str(path)) and ".tmp" not in str(error)
        assert path.read_bytes() == b"old" and len(os.listdir(path.parent)) == files_left
        monkeypatch.setattr(files.Path, "unlink", failing(999, errno.EACCES))


@pytest.mark.skipif(os.name != "posix", reason="folders are flushed on POSIX alone")
@pytest.mark.parametrize("step", ["open", "fsync"])
def test_a_folder_that_cannot_be_flushed_is_no_error(path, monkeypatch, step):
    real = getattr(os, step)

    def fails_for_folders(what, *rest):
        if os.path.isdir(what):  # a path, or the number of an open folder
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        return real(what, *rest)

    monkeypatch.setattr(os, step, fails_for_folders)
    files.write_whole(path, b"new")
    assert path.read_bytes() == b"new"


def test_only_old_leftovers_of_the_same_file_are_removed(path):
    names = ".metrics.csv.1.tmp", ".metrics.csv.2.tmp", ".steps.csv.1.tmp"
    old, young, other = (path.with_name(name) for name in names)
    for leftover in (old, young, other):
        leftover.write_bytes(b"half")
    for leftover in (old, other):
        os.utime(leftover, (0, time.time() - 2 * files.HOUR))
    files.write_whole(path, b"new")
    assert sorted(path.parent.iterdir()) == sorted([path, young, other])
