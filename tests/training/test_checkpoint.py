"""A checkpoint is written whole or not at all; what is read is what was written, or an error."""

import copy
import errno
import io
import os
import pickle
import random
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from helpers import ended, fork, same, write_data

import files
import main
from dataset import MNIST
from files import CheckpointError
from model import MODELS
from training import checkpoint
from training.config import Config, ConfigError
from training.report import Report

posix = pytest.mark.skipif(os.name != "posix", reason="needs fork or POSIX limits")


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    """The bytes of a checkpoint with momentum, small so that most of them are structure."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("run"))
        data = MNIST(write_data(tmp_path_factory.mktemp("data"), 130, 20))
        config = Config.from_dict({"model": "mlp", "hidden": 2, "epochs": 2, "name": "x"})
        main.fit(config, data, data, report=Report(quiet=True))
        return (checkpoint.RUNS / "x" / "checkpoint.pt").read_bytes()


@pytest.fixture
def path(tmp_path, content):
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(content)
    return path


@pytest.fixture
def state(path):
    return checkpoint.load(path)


def refusal(path):
    """The one line that says why a file is not loaded."""
    with pytest.raises(CheckpointError) as error:
        checkpoint.load(path)
    line = str(error.value)
    assert line.startswith(f"{path}: ") and ";" in line and "\n" not in line
    assert "weights_only" not in line
    return line


def refused_or_same(path, state):
    """Whether a damaged file is refused; it fails where its contents differ in silence."""
    try:
        loaded = checkpoint.load(path)
    except CheckpointError as error:
        assert "\n" not in str(error)
        return True
    assert same(loaded, state)
    return False


def test_what_is_loaded_is_what_was_saved(tmp_path, state):
    checkpoint.write_state(tmp_path / "again.pt", state)
    assert same(checkpoint.load(tmp_path / "again.pt"), state)


def test_no_bit_flip_changes_what_is_loaded(path, content, state):
    """1,000 of them, half in the zip's structure at its end; most must be noticed."""
    draw, refused = random.Random(0), 0
    for flip in range(1000):
        start = len(content) - 3000 if flip % 2 else 0
        damaged = bytearray(content)
        damaged[draw.randrange(start, len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        refused += refused_or_same(path, state)
    assert refused > 600


def test_no_truncated_checkpoint_is_loaded(path, content):
    lengths = [0, 1, 22, *random.Random(0).sample(range(len(content)), 100)]
    lengths += range(len(content) - 47, len(content))
    assert len(lengths) == 150
    for length in lengths:
        path.write_bytes(content[:length])
        refusal(path)


class Run:
    """Pickles as a call: what a malicious file does."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def malicious(sentinel, state):
    """Ten files that would make a careless reader create the sentinel."""
    script = f"open({str(sentinel)!r}, 'w').close()"
    system, evaluate = Run(os.system, f"touch '{sentinel}'"), Run(eval, script)
    opened = Run(open, str(sentinel), "w")

    def saved(thing, **how):
        file = io.BytesIO()
        torch.save(thing, file, **how)
        return file.getvalue()

    def archived(name, thing):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w") as tar:
            member = tarfile.TarInfo(name)
            member.size = len(thing)
            tar.addfile(member, io.BytesIO(thing))
        return file.getvalue()

    array = io.BytesIO()
    np.save(array, np.array([opened], dtype=object), allow_pickle=True)
    return {
        "a zip, os.system": saved(system),
        "a zip, eval": saved(evaluate),
        "a zip, open, deep inside": saved(plain(state) | {"history": [{"epoch": [opened]}]}),
        "a zip, exec, as a key's value": saved(plain(state) | {"versions": Run(exec, script)}),
        "a zip, getattr of a module": saved(Run(getattr, Run(__import__, "os"), "system")),
        "raw pickle, protocol 0": pickle.dumps(evaluate, 0),
        "raw pickle": pickle.dumps(system),
        "torch's legacy format": saved(system, _use_new_zipfile_serialization=False),
        "a tar, torch's oldest format": archived("pickle", pickle.dumps(system)),
        "a numpy array of objects": array.getvalue(),
    }


def test_no_malicious_file_runs_its_code(tmp_path, state):
    sentinel, path = tmp_path / "it ran", tmp_path / "checkpoint.pt"
    files = malicious(sentinel, state)
    assert len(files) == 10
    for what, evil in files.items():
        path.write_bytes(evil)
        refusal(path)
        assert not sentinel.exists(), what
    pickle.loads(files["raw pickle, protocol 0"])
    assert sentinel.exists(), "the files are harmless, and so prove nothing"


def test_a_zip_bomb_is_not_unpacked(path, monkeypatch):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", bytes(200 * 1024**2))
    assert path.stat().st_size < 1024**2
    monkeypatch.setattr(zipfile.ZipFile, "testzip", lambda _: pytest.fail("unpacked"))
    assert "compressed" in refusal(path)


def test_a_compressed_copy_is_refused(path, content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    assert "compressed" in refusal(path)


def test_other_kinds_of_files_are_refused(tmp_path):
    path = tmp_path / "checkpoint.pt"
    assert "not there" in refusal(path)
    for other in (
        b"",
        b"epoch,lr\n",
        b"\x89PNG\r\n\x1a\n",
        bytes(10_000),
        b"PK\x05\x06" + bytes(18),
    ):
        path.write_bytes(other)
        refusal(path)
    with open(path, "wb") as file:
        file.truncate(checkpoint.MAX_BYTES + 1)  # sparse
    assert "too large" in refusal(path)
    path.unlink()
    path.mkdir()
    assert "not a file" in refusal(path)


CHANGES = {  # of a sound checkpoint, as it is on disk
    "a list": lambda state: [1, 2],
    "one key less": lambda state: state.pop("scheduler") and None,
    "an unknown model": lambda state: state["config"].update(model="vgg"),
    "another model": lambda state: state["config"].update(model="lenet5"),
    "another width": lambda state: state["config"].update(hidden=3),
    "a negative width": lambda state: state["config"].update(hidden=-1),
    "no width": lambda state: state["config"].pop("hidden") and None,
    "a weight less": lambda state: state["model"].popitem() and None,
    "a weight more": lambda state: state["model"].update(more=torch.zeros(1)),
    "nan": lambda state: first(state["model"], lambda weight: weight * torch.nan),
    "not a tensor": lambda state: first(state["model"], lambda weight: 3),
    "momentum nan": lambda state: first(
        state["optimizer"]["state"][0], lambda momentum: momentum * torch.nan
    ),
    "an epoch more": lambda state: state.update(epoch=3),
    "a history less": lambda state: state["history"].pop() and None,
    "a loss of inf": lambda state: state["history"][0].update(test_loss=float("inf")),
    "a loss of text": lambda state: state["history"][0].update(test_loss="0.1"),
    "a column less": lambda state: state["history"][0].pop("lr") and None,
}


def plain(state):
    """A checkpoint as it is on disk."""
    return copy.deepcopy(state | {"config": state["config"].to_dict()})


def first(dictionary, change):
    name = next(iter(dictionary))
    dictionary[name] = change(dictionary[name])


@pytest.mark.parametrize("what", CHANGES)
def test_a_sound_file_with_other_contents_is_refused(what, path, state):
    """When it is read, or when its network is built from it."""
    changed = plain(state)
    torch.save(CHANGES[what](changed) or changed, path)
    with pytest.raises(CheckpointError) as error:
        checkpoint.network(checkpoint.load(path))
    assert ";" in str(error.value) and "\n" not in str(error.value)


def test_what_else_a_student_keeps_in_it_stays(path, state):
    changed = plain(state) | {"notes": "mine", "ema": {"layers.1.weight": torch.ones(2)}}
    for row in changed["history"]:
        row["f1"] = 0.5
    torch.save(changed, path)
    loaded = checkpoint.load(path)
    assert loaded["notes"] == "mine" and loaded["history"][1]["f1"] == 0.5
    assert torch.equal(loaded["ema"]["layers.1.weight"], torch.ones(2))
    checkpoint.network(loaded)


def test_weights_saved_by_hand_are_of_the_network_that_they_fit(path):
    for name, kind in MODELS.items():
        weights = kind().state_dict()
        torch.save(weights, path)
        saved = checkpoint.load(path)
        assert saved["config"].model == name and saved["history"] == []
        assert same(checkpoint.network(saved).state_dict(), weights)
    torch.save({"fc.weight": torch.ones(3)}, path)
    assert "fit none of the networks lenet5, mlp" in refusal(path)


def test_a_folder_means_the_checkpoint_in_it(path, state):
    assert same(checkpoint.load(path.parent), state)


def test_what_the_optimizer_cannot_take_is_refused_in_one_line(state):
    for name, broken in (("optimizer", {"state": {}, "param_groups": []}), ("scheduler", 3)):
        config = state["config"]
        model = MODELS[config.model](**config.network)
        optimizer = torch.optim.SGD(model.parameters())
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1)
        parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
        with pytest.raises(CheckpointError, match=f"its {name} is not the {name} of this program"):
            checkpoint.restore(state | {name: broken}, **parts)
        checkpoint.restore(state, **parts)


@pytest.mark.parametrize("width", [10**7, 10**18])
def test_a_file_that_claims_a_huge_network_allocates_nothing(width, path, state, monkeypatch):
    """Its tensors of one value look as large as any, through strides of 0."""
    state = plain(state)
    state["config"]["hidden"], state["optimizer"]["state"] = width, {}
    if width < 10**9:
        for name, weight in state["model"].items():
            shape = [width if size == 2 else size for size in weight.shape]
            state["model"][name] = torch.zeros(1).expand(shape)
    torch.save(state, path)
    monkeypatch.setattr(torch.Tensor, "isfinite", lambda _: pytest.fail("allocated"))
    refusal(path)


def test_the_widest_mlp_of_the_command_line_can_be_loaded(tmp_path):
    """Weights and momenta of the largest --hidden stay within what a reader accepts."""
    model = MODELS["mlp"](hidden=10_000)
    assert 3 * sum(weight.nbytes for weight in model.parameters()) < checkpoint.MAX_BYTES  # Adam's
    with pytest.raises(ConfigError):
        Config.from_dict({"model": "mlp", "hidden": 10_001})


class FullDisk(io.FileIO):
    """A file on a disk that is full after `room` bytes."""

    room = 0

    def write(self, content):
        free = self.room - self.tell()
        if len(memoryview(content)) > free:
            super().write(memoryview(content)[: max(free, 0)])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(content)


@pytest.mark.parametrize("eighth", range(8))
def test_a_full_disk_leaves_the_old_file(eighth, path, content, state, monkeypatch):
    class Full(FullDisk):
        room = eighth * len(content) // 8

    monkeypatch.setattr(files, "open", Full, raising=False)
    with pytest.raises(OSError) as error:
        checkpoint.write_state(path, state)
    assert error.value.errno == errno.ENOSPC
    assert path.read_bytes() == content
    assert os.listdir(path.parent) == [path.name]


@posix
@pytest.mark.parametrize("eighth", range(8))
def test_so_does_a_limit_of_the_system(eighth, path, content, state):
    """The kernel itself stops the write: RLIMIT_FSIZE, in a process of its own."""
    import resource
    import signal

    def save():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (eighth * len(content) // 8,) * 2)
        try:
            checkpoint.write_state(path, state)
        except OSError as error:
            return 1 if error.errno == errno.EFBIG else 2
        return 0

    output = path.parent.parent / f"output{eighth}.txt"
    assert ended(fork(save, output)) == 1
    assert path.read_bytes() == content
    assert os.listdir(path.parent) == [path.name]


def test_a_write_reaches_the_disk_before_its_name(path, monkeypatch):
    """Flushed, then renamed within the folder, then the folder flushed."""
    steps = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, n=name, r=real: steps.append((n, *a)) or r(*a))
    files.write_whole(path, b"new")
    assert [step[0] for step in steps] == ["fsync", "replace", "fsync"][
        : 3 if os.name == "posix" else 2
    ]
    temporary, final = steps[1][1:]
    assert final == path and temporary.parent == path.parent
    assert path.read_bytes() == b"new"
