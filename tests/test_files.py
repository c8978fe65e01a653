"""A file is written whole or not at all, also where other programs or the disk are in the way."""

import errno
import os
from pathlib import Path

import pytest

import files


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(files.time, "sleep", lambda seconds: None)


def held(times, real):
    """A function that a virus scanner, say, lets fail some times; Windows' error."""
    calls = []

    def function(*arguments, **named):
        calls.append(arguments)
        if len(calls) <= times:
            raise PermissionError(errno.EACCES, "Access is denied", str(arguments[0]))
        return real(*arguments, **named)

    return function


def test_a_file_that_is_held_for_a_moment_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "replace", held(len(files.PAUSES), os.replace))
    files.write_whole(tmp_path / "metrics.csv", b"new")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"new"]


def test_the_attempts_take_about_two_seconds():
    assert sum(files.PAUSES) == pytest.approx(2)


def test_a_file_that_stays_held_is_named_and_keeps_its_old_content(tmp_path, monkeypatch):
    path = tmp_path / "metrics.csv"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "replace", held(999, os.replace))
    with pytest.raises(PermissionError) as caught:
        files.write_whole(path, b"new")
    assert caught.value.filename == str(path)
    assert caught.value.strerror == "Access is denied, another program may have it open"
    assert ".tmp" not in str(caught.value)
    assert [one.read_bytes() for one in tmp_path.iterdir()] == [b"old"]


@pytest.mark.parametrize("place", ["fsync", "replace"])
def test_the_clean_up_does_not_hide_the_first_error(tmp_path, monkeypatch, place):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, place, full)
    monkeypatch.setattr(files.Path, "unlink", held(999, None))
    with pytest.raises(OSError) as caught:
        files.write_whole(tmp_path / "checkpoint.pt", b"new")
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(tmp_path / "checkpoint.pt")


def test_an_error_of_the_folder_names_the_folder(tmp_path):
    (tmp_path / "runs").write_bytes(b"a file")
    with pytest.raises(OSError) as caught:
        files.write_whole(tmp_path / "runs" / "config.json", b"new")
    assert str(caught.value.filename) == str(tmp_path / "runs")


@pytest.mark.skipif(os.name != "posix", reason="folders are flushed on POSIX alone")
@pytest.mark.parametrize("step", ["open", "fsync"])
@pytest.mark.parametrize(
    ("number", "passed_over"),
    [
        (errno.EINVAL, True),
        (errno.EACCES, True),
        (errno.EIO, True),
        (errno.ENOSPC, False),
        (errno.EDQUOT, False),
    ],
)
def test_a_folder_that_cannot_be_flushed_is_no_error_but_a_full_disk_is(
    tmp_path, monkeypatch, step, number, passed_over
):
    real = getattr(os, step)

    def fails_for_folders(what, *rest):
        if os.path.isdir(what):  # a path, or the number of an open folder
            raise OSError(number, os.strerror(number))
        return real(what, *rest)

    monkeypatch.setattr(os, step, fails_for_folders)
    path = tmp_path / "checkpoint.pt"
    if passed_over:
        files.write_whole(path, b"new")
    else:
        with pytest.raises(OSError) as caught:
            files.write_whole(path, b"new")
        assert caught.value.filename == str(path)
    assert path.read_bytes() == b"new"


def test_a_folder_that_takes_files_stays_empty(tmp_path):
    files.check_writable(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_takes_no_files_is_named(tmp_path, monkeypatch):
    with pytest.raises(OSError) as caught:
        files.check_writable(tmp_path / "missing")
    assert caught.value.filename == str(tmp_path / "missing")

    attempts = []

    def denied(*arguments, **named):
        attempts.append(arguments)
        raise PermissionError(errno.EACCES, "Access is denied", str(arguments[0]))

    monkeypatch.setattr(Path, "write_bytes", denied)
    with pytest.raises(PermissionError) as caught:
        files.check_writable(tmp_path)
    assert caught.value.filename == str(tmp_path)
    assert len(attempts) == 1  # CPython's TemporaryFile tries for hours


def test_a_trial_file_that_is_held_for_a_moment_is_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "unlink", held(2, os.unlink))
    files.check_writable(tmp_path)
    assert not list(tmp_path.iterdir())
