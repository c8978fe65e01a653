"""Nothing finished is lost by accident, and no run mixes two experiments without a word."""

import json
import shutil
import signal
from pathlib import Path

import pytest
import torch
from helpers import same, write_data

import main
from figures import run as plotting
from figures import style
from training import checkpoint, source

NAMED = "--model", "mlp", "--epochs", "3", "--name", "a"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"), 300, 60)


@pytest.fixture
def command(data, tmp_path, monkeypatch):
    """Run main.py's main in an empty folder on the small data, without pictures."""
    monkeypatch.chdir(tmp_path)
    for what in ("curves", "confusion", "mistakes"):
        monkeypatch.setattr(plotting, what, lambda *_, **__: None)
    monkeypatch.setattr(style, "save", lambda *_: None)
    return lambda *options: main.main(["--data-dir", str(data), "--device", "cpu", *options])


def interrupted(command, *options, in_epoch):
    """Run a command that Ctrl-C stops in an epoch."""
    train, calls = main.train, []

    def stopping(*arguments):
        calls.append(1)
        if len(calls) == in_epoch:
            signal.raise_signal(signal.SIGINT)
        return train(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(main, "train", stopping)
        assert command(*options) == 130


def state(name="a"):
    return checkpoint.load(Path("runs", name, "checkpoint.pt"))


def files():
    return {path: path.read_bytes() for path in Path("runs").rglob("*") if path.is_file()}


def error_line(capsys):
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


def test_a_stopped_run_is_not_started_anew_by_forgetting_resume(command, capsys):
    interrupted(command, *NAMED, in_epoch=3)
    before = files()
    capsys.readouterr()
    assert command(*NAMED) == 1
    line = error_line(capsys)
    assert "2 of 3 epochs are there; --resume continues it" in line
    assert "--name" in line and "--overwrite" in line
    assert files() == before
    assert command(*NAMED, "--resume") == 0
    assert state()["epoch"] == 3


def test_overwrite_starts_a_stopped_run_anew(command):
    assert command(*NAMED, "--name", "straight") == 0
    interrupted(command, *NAMED, in_epoch=3)
    assert command(*NAMED, "--overwrite") == 0
    assert same(state(), state("straight"))
    assert not Path("runs/a/previous").exists()  # it was not finished


def test_a_finished_run_that_is_trained_again_is_kept(command, capsys):
    assert command(*NAMED) == 0
    first = files()
    capsys.readouterr()
    assert command(*NAMED) == 0
    where = str(Path("runs/a/previous"))
    told = capsys.readouterr().err
    assert f"the finished run in {Path('runs/a')} moves to {where} as soon" in told
    for name in checkpoint.FILES:
        assert Path(where, name).read_bytes() == first[Path("runs/a", name)]
    assert same(checkpoint.load(where), state())


def test_only_a_finished_run_replaces_the_previous_one(command, capsys):
    """An interrupt in the second training leaves both; starting anew leaves the first."""
    assert command(*NAMED) == 0
    finished = Path("runs/a/checkpoint.pt").read_bytes()
    interrupted(command, *NAMED, in_epoch=2)
    assert Path("runs/a/previous/checkpoint.pt").read_bytes() == finished
    assert state()["epoch"] == 1
    assert command(*NAMED) == 1
    interrupted(command, *NAMED, "--overwrite", in_epoch=3)
    assert Path("runs/a/previous/checkpoint.pt").read_bytes() == finished
    assert command(*NAMED, "--resume") == 0
    assert Path("runs/a/previous/checkpoint.pt").read_bytes() == finished


@pytest.mark.parametrize("in_epoch", [1, None])
def test_a_training_that_fails_in_its_first_epoch_leaves_everything(
    in_epoch, command, capsys, monkeypatch
):
    """An interrupt, or a mistake in an edit of main.py."""
    assert command(*NAMED) == 0
    assert command(*NAMED) == 0  # so that there is a previous one, too
    before = files()
    capsys.readouterr()
    if in_epoch:
        interrupted(command, *NAMED, in_epoch=in_epoch)
        assert "interrupted before the first epoch was saved" in capsys.readouterr().err
    else:
        monkeypatch.setattr(main, "train", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            command(*NAMED)
    assert files() == before


@pytest.mark.parametrize("damage", [b"PK", b"", None])
def test_metrics_tell_whether_a_run_with_a_damaged_checkpoint_was_finished(damage, command, capsys):
    assert command(*NAMED) == 0
    interrupted(command, *NAMED, "--name", "stopped", in_epoch=3)
    for name in ("a", "stopped"):
        path = Path("runs", name, "checkpoint.pt")
        path.write_bytes(path.read_bytes()[:-100] if damage is None else damage)
    before = files()
    capsys.readouterr()
    assert command(*NAMED, "--name", "stopped") == 1
    line = error_line(capsys)
    assert "2 of 3 epochs are there; --name" in line and "--resume" not in line
    assert files() == before
    assert command(*NAMED) == 0
    assert state()["epoch"] == 3


def test_a_file_that_somebody_put_there_is_not_overwritten(command, capsys):
    Path("runs/a").mkdir(parents=True)
    torch.save({"mine": torch.ones(1)}, "runs/a/checkpoint.pt")
    before = files()
    assert command(*NAMED) == 1
    assert "--overwrite" in error_line(capsys)
    assert files() == before | {Path("runs/a/.lock"): b""} or files() == before


def test_several_runs_are_looked_at_before_one_moves(command, capsys):
    options = *NAMED, "--runs", "2"
    assert command(*options) == 0
    shutil.rmtree("runs/a_seed1")
    interrupted(command, *NAMED, "--seed", "1", "--name", "a_seed1", in_epoch=2)
    before = files()
    capsys.readouterr()
    assert command(*options) == 1
    assert "a_seed1: 1 of 3 epochs are there" in error_line(capsys)
    assert files() == before


def test_the_numbers_of_epochs_are_named(command, capsys):
    assert command(*NAMED) == 0
    assert command(*NAMED, "--epochs", "5", "--resume") == 0
    for resume in ([], ["--resume"]):
        capsys.readouterr()
        assert command(*NAMED, *resume) == 1
        assert "it has 5 epochs: --name a --epochs 5 fits" in error_line(capsys)


def test_an_edited_config_file_is_an_error(command, capsys):
    interrupted(command, *NAMED, in_epoch=3)
    path = Path("runs/a/config.json")
    written = path.read_text(encoding="utf-8")
    for text in (written.replace("0.01", "0.02"), "{", "[1]", '{"mine": 1}'):
        path.write_text(text, encoding="utf-8")
        capsys.readouterr()
        assert command(*NAMED, "--resume") == 1
        assert "config.json: was edited" in error_line(capsys)
        assert path.read_text(encoding="utf-8") == text
    longer = json.loads(written) | {"epochs": 4}  # what a kill between two writes leaves
    path.write_text(json.dumps(longer), encoding="utf-8")
    assert command(*NAMED, "--resume") == 0


def test_what_changes_the_numbers_of_a_resumed_run_is_named(command, capsys, monkeypatch):
    interrupted(command, *NAMED, in_epoch=2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    capsys.readouterr()
    assert command(*NAMED, "--resume") == 0
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "was saved with threads 1, now threads 7; the numbers will not be exactly" in line


def test_an_edited_network_is_named(command, capsys, monkeypatch):
    interrupted(command, *NAMED, in_epoch=2)
    monkeypatch.setattr(checkpoint, "network_digest", lambda network: "another")
    capsys.readouterr()
    assert command(*NAMED, "--resume") == 0
    assert "the network in model.py was edited since" in capsys.readouterr().err


def test_a_name_that_is_not_there_is_answered_with_similar_ones(command, capsys):
    for name in ("lenet5", "mlp_hidden30", "other"):
        Path("runs", name).mkdir(parents=True)
        Path("runs", name, "checkpoint.pt").touch()
    assert command(*NAMED, "--name", "mlp_hidden3", "--resume") == 1
    assert "no such run to resume; give --name with one that exists: mlp_hidden30, " in error_line(
        capsys
    )


SOURCE = '''
import torch
from torch import nn

WIDTH = 3

def block(n):
    """What it does."""
    return nn.Linear(n, n)  # a comment

class Net(nn.Module):
    """A network."""

    def __init__(self):
        super().__init__()
        self.inner = block(WIDTH)

class Other(nn.Module):
    pass
'''


def digest(text, folder, name="Net"):
    """The digest of a network in a file with this text."""
    import importlib.util

    path = folder / f"net{len(list(folder.glob('net*.py')))}.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(__import__("sys").modules, path.stem, module)
        spec.loader.exec_module(module)
        return source.network_digest(getattr(module, name))


def test_a_digest_changes_with_the_code_of_a_network_alone(tmp_path):
    plain = digest(SOURCE, tmp_path)
    for same_code in (
        SOURCE.replace("# a comment", ""),
        SOURCE.replace('"""A network."""', '"""Mine."""'),
        SOURCE.replace('    """What it does."""\n', ""),
        SOURCE.replace("class Other", "\n\nclass Another"),
    ):
        assert digest(same_code, tmp_path) == plain
    for edited in (
        SOURCE.replace("WIDTH = 3", "WIDTH = 4"),
        SOURCE.replace("nn.Linear(n, n)", "nn.Linear(n, n, bias=False)"),
        SOURCE.replace("super().__init__()", "super().__init__(); self.x = 1"),
    ):
        assert digest(edited, tmp_path) != plain
