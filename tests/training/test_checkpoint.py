"""A checkpoint is written whole or not at all; what is read is what was written, or an error."""

import contextlib
import copy
import errno
import io
import os
import pickle
import random
import signal
import tarfile
import zipfile

import files
import main
from dataset import MNIST
from files import CheckpointError
from model import MODELS
from training import checkpoint
from training.config import Config
from training.report import Report

import numpy as np
import pytest
import torch
from helpers import same, write_data

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    """The bytes of a checkpoint with momentum, small so that most of them are structure."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("run"))
        data = MNIST(write_data(tmp_path_factory.mktemp("data"), 130, 20))
        config = Config(model="mlp", network={"hidden": 2}, epochs=2, name="x")
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
    """The one line that says why a file is not loaded, or its network not built."""
    with pytest.raises(CheckpointError) as error:
        checkpoint.network(checkpoint.load(path))
    line = str(error.value)
    assert ";" in line and "\n" not in line and "weights_only" not in line
    return line


def plain(state):
    """A checkpoint as it is on disk."""
    return copy.deepcopy(state | {"config": state["config"].to_dict()})


# ---- damaged files


def test_what_is_loaded_is_what_was_saved(tmp_path, state, monkeypatch):
    folder = tmp_path / "runs" / "again"
    checkpoint.write_state(folder / "checkpoint.pt", state)
    monkeypatch.chdir(tmp_path)
    for name in (folder / "checkpoint.pt", folder, "runs/again", "again"):
        assert same(checkpoint.load(name), state)


def test_no_bit_flip_changes_what_is_loaded(path, content, state):
    """1,000 of them, half in the zip's structure at its end; most must be noticed."""
    draw, refused = random.Random(0), 0
    for flip in range(1000):
        start = len(content) - 3000 if flip % 2 else 0
        damaged = bytearray(content)
        damaged[draw.randrange(start, len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        try:
            assert same(checkpoint.load(path), state), "it differs in silence"
        except CheckpointError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 600


def test_no_truncated_checkpoint_is_loaded(path, content):
    lengths = [0, 1, 22, *random.Random(0).sample(range(len(content)), 100)]
    lengths += range(len(content) - 47, len(content))
    assert len(lengths) == 150
    for length in lengths:
        path.write_bytes(content[:length])
        assert refusal(path).startswith(f"{path}: ")


# ---- strangers' files


class Call:
    """Pickles as a call: what a malicious file does."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def malicious(sentinel, state):
    """Ten files that would make a careless reader create the sentinel."""
    script = f"open({str(sentinel)!r}, 'w').close()"
    system, evaluate = Call(os.system, f"touch '{sentinel}'"), Call(eval, script)
    opened = Call(open, str(sentinel), "w")

    def saved(thing, **how):
        file = io.BytesIO()
        torch.save(thing, file, **how)
        return file.getvalue()

    oldest, array = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=oldest, mode="w") as tar:
        member = tarfile.TarInfo("pickle")
        member.size = len(pickle.dumps(system))
        tar.addfile(member, io.BytesIO(pickle.dumps(system)))
    np.save(array, np.array([opened], dtype=object), allow_pickle=True)
    return {
        "a zip, os.system": saved(system),
        "a zip, eval": saved(evaluate),
        "a zip, open, deep inside": saved(plain(state) | {"history": [{"epoch": [opened]}]}),
        "a zip, exec, as a key's value": saved(plain(state) | {"versions": Call(exec, script)}),
        "a zip, getattr of a module": saved(Call(getattr, Call(__import__, "os"), "system")),
        "raw pickle, protocol 0": pickle.dumps(evaluate, 0),
        "raw pickle": pickle.dumps(system),
        "torch's legacy format": saved(system, _use_new_zipfile_serialization=False),
        "a tar, torch's oldest format": oldest.getvalue(),
        "a numpy array of objects": array.getvalue(),
    }


def test_no_malicious_file_runs_its_code(tmp_path, state):
    sentinel, path = tmp_path / "it ran", tmp_path / "checkpoint.pt"
    contents = malicious(sentinel, state)
    assert len(contents) == 10
    for what, evil in contents.items():
        path.write_bytes(evil)
        refusal(path)
        assert not sentinel.exists(), what
    pickle.loads(contents["raw pickle, protocol 0"])
    assert sentinel.exists(), "the files are harmless, and so prove nothing"


def compressed(members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    return file.getvalue()


def test_a_zip_bomb_and_any_compressed_file_are_not_unpacked(path, content, monkeypatch):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    monkeypatch.setattr(zipfile.ZipFile, "testzip", lambda _: pytest.fail("unpacked"))
    for packed in (compressed({"x/data.pkl": bytes(200 * 1024**2)}), compressed(members)):
        assert len(packed) < 1024**2
        path.write_bytes(packed)
        assert "compressed" in refusal(path)


def test_other_kinds_of_files_are_refused(tmp_path):
    path = tmp_path / "checkpoint.pt"
    assert "not there" in refusal(path)
    for other in (b"epoch,lr\n", b"\x89PNG\r\n\x1a\n", bytes(10_000), b"PK\x05\x06" + bytes(18)):
        path.write_bytes(other)
        refusal(path)
    with open(path, "wb") as file:
        file.truncate(checkpoint.MAX_BYTES + 1)  # sparse
    assert "too large" in refusal(path)
    path.unlink()
    (path / "checkpoint.pt").mkdir(parents=True)
    assert "not a file" in refusal(path)


def first(dictionary, change):
    name = next(iter(dictionary))
    dictionary[name] = change(dictionary[name])


CHANGES = {  # of a sound checkpoint, as it is on disk
    "a list": lambda state: [1, 2],
    "one key less": lambda state: state.pop("scheduler") and None,
    "an unknown model": lambda state: state["config"].update(model="vgg"),
    "another model": lambda state: state["config"].update(model="lenet5"),
    "another width": lambda state: state["config"].update(hidden=3),
    "a negative width": lambda state: state["config"].update(hidden=-1),
    "a huge width": lambda state: state["config"].update(hidden=10**18),
    "no width": lambda state: state["config"].pop("hidden") and None,
    "an option of a later version": lambda state: state["config"].update(swish=True),
    "a configuration of text": lambda state: state.update(config="mlp"),
    "a weight less": lambda state: state["model"].popitem() and None,
    "a weight more": lambda state: state["model"].update(more=torch.zeros(1)),
    "nan": lambda state: first(state["model"], lambda weight: weight * torch.nan),
    "not a tensor": lambda state: first(state["model"], lambda weight: 3),
    "no weights at all": lambda state: state.update(model=3),
    "versions of text": lambda state: state.update(versions="2.13"),
    "momentum nan": lambda state: first(
        state["optimizer"]["state"][0], lambda momentum: momentum * torch.nan
    ),
    "an epoch more": lambda state: state.update(epoch=3),
    "a history less": lambda state: state["history"].pop() and None,
    "a history of numbers": lambda state: state.update(history=[1, 2]),
    "a loss of inf": lambda state: state["history"][0].update(test_loss=float("inf")),
    "a loss of text": lambda state: state["history"][0].update(test_loss="0.1"),
    "a column less": lambda state: state["history"][0].pop("lr") and None,
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_sound_file_with_other_contents_is_refused(what, path, state):
    """When it is read, or when its network is built from it."""
    changed = plain(state)
    torch.save(CHANGES[what](changed) or changed, path)
    refusal(path)


def test_what_else_a_student_keeps_in_it_stays(path, state):
    changed = plain(state) | {"notes": "mine", "ema": {"layers.1.weight": torch.ones(2)}}
    changed["model"]["layers.1.bias"].fill_(-torch.inf)  # of a mask, for example
    for row in changed["history"]:
        row["f1"] = 0.5
    torch.save(changed, path)
    loaded = checkpoint.load(path)
    assert same(loaded, changed | {"config": state["config"]})
    checkpoint.network(loaded)


def test_tensors_that_claim_to_be_huge_allocate_nothing(path, state, monkeypatch):
    """Of one value, they look as large as any, through strides of 0."""
    changed = plain(state)
    changed["model"]["layers.1.weight"] = torch.zeros(1).expand(10**7, 784)
    torch.save(changed, path)
    monkeypatch.setattr(torch.Tensor, "isnan", lambda _: pytest.fail("allocated"))
    assert "too large" in refusal(path)


# ---- weights as people keep them


class Inner(torch.nn.Module):
    """A network whose own layers are called as the wrappers that put a prefix before names."""

    def __init__(self):
        super().__init__()
        self.model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))

    def forward(self, images):
        return self.model(images)


def prefixed(prefix, weights):
    return {prefix + name: tensor for name, tensor in weights.items()}


FORMS = {  # {the words of the line that says what was taken: what is in the file}
    "": lambda weights: weights,
    "its 'state_dict'": lambda weights: {"epoch": 3, "state_dict": weights},
    "its 'model_state_dict'": lambda weights: {"loss": 0.1, "model_state_dict": weights},
    "without 'module.'": lambda weights: prefixed("module.", weights),  # DataParallel's
    "without '_orig_mod.'": lambda weights: prefixed("_orig_mod.", weights),  # torch.compile's
    "its 'state_dict', without 'module.', without '_orig_mod.'": lambda weights: {
        "state_dict": prefixed("module._orig_mod.", weights)
    },
    "its 'state_dict', without 'model.'": lambda weights: {  # a LightningModule's
        "state_dict": prefixed("model.", weights),
        "hyper_parameters": {"lr": 0.1},
    },
}


@pytest.mark.parametrize("words", FORMS)
def test_weights_that_somebody_else_saved_are_loaded(words, path, capsys, monkeypatch):
    """Those of any network; a line says which part of the file they are, where it is not all."""
    monkeypatch.setitem(MODELS, "inner", Inner)
    for name, network in MODELS.items():
        weights = network().state_dict()
        torch.save(FORMS[words](weights), path)
        saved = checkpoint.load(path)
        assert saved["config"].model == name and saved["history"] == []
        assert same(dict(checkpoint.network(saved).state_dict()), dict(weights))
        note = f"note: the weights are {words}, and fit {name}\n" if words else ""
        assert capsys.readouterr().err == note


@pytest.mark.parametrize(
    ("words", "thing", "zipped"),
    [
        ("fit none of the networks lenet5, mlp", {"fc.weight": torch.ones(3)}, True),
        ("holds no weights", {"epoch": 3}, True),
        ("before 2020; save it again with torch.save", MODELS["mlp"]().state_dict(), False),
        ("model.state_dict()", MODELS["mlp"](), True),
    ],
)
def test_a_file_without_such_weights_is_one_line(words, thing, zipped, path):
    torch.save(thing, path, _use_new_zipfile_serialization=zipped)
    assert words in refusal(path)


# ---- writing


class FullDisk(io.FileIO):
    """A file on a disk that is full after `room` bytes."""

    room = 0

    def write(self, content):
        free = self.room - self.tell()
        if len(memoryview(content)) > free:
            super().write(memoryview(content)[: max(free, 0)])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(content)


@contextlib.contextmanager
def full_disk(room):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FullDisk, "room", room)
        patch.setattr(files, "open", FullDisk, raising=False)
        yield errno.ENOSPC


@contextlib.contextmanager
def file_size_limit(room):
    """The kernel itself stops the write."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        yield errno.EFBIG
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


@pytest.mark.parametrize("limit", [full_disk, file_size_limit])
@pytest.mark.parametrize("eighth", range(8))
def test_a_full_disk_leaves_the_old_file(eighth, limit, path, content, state):
    with limit(eighth * len(content) // 8) as number, pytest.raises(OSError) as error:
        checkpoint.write_state(path, state)
    assert error.value.errno == number and error.value.filename == str(path)
    assert path.read_bytes() == content
    assert os.listdir(path.parent) == [path.name]


def test_a_write_reaches_the_disk_before_its_name(path, monkeypatch):
    """Flushed, then renamed within the folder, then the folder flushed."""
    steps = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, n=name, r=real: steps.append((n, *a)) or r(*a))
    files.write_whole(path, b"new")
    expected = ["fsync", "replace"] + ["fsync"] * (os.name == "posix")
    assert [step[0] for step in steps] == expected
    temporary, final = steps[1][1:]
    assert final == path and temporary.parent == path.parent
    assert path.read_bytes() == b"new"


def test_what_cannot_be_read_back_is_not_written(path, content, state):
    with pytest.raises(files.UserError, match="cannot be saved and read back") as error:
        checkpoint.write_state(path, state | {"model": {"layer": torch.nn.Linear}})
    assert "\n" not in str(error.value) and path.read_bytes() == content


def test_tables_that_another_program_holds_are_a_warning(path, state, monkeypatch, capsys):
    """Excel does so on Windows; the checkpoint must be written all the same."""
    real = checkpoint.write_whole

    def held(path, content):
        if path.name == "metrics.csv":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        real(path, content)

    monkeypatch.chdir(path.parent)
    monkeypatch.setattr(checkpoint, "write_whole", held)
    row = state["history"].pop()
    folder = checkpoint.RunFolder(state["config"], state["history"], CPU, parts_of(state["config"]))
    folder.add(row)
    assert "metrics.csv: Permission denied; the training goes on" in capsys.readouterr().err
    assert checkpoint.load("x")["epoch"] == 2


def parts_of(config):
    model = MODELS[config.model](**config.network)
    optimizer, scheduler = main.optimization(model, config, 10)
    return {"model": model, "optimizer": optimizer, "scheduler": scheduler}


def test_an_exported_checkpoint_classifies_and_says_how_it_came_about(path, state):
    exported = path.with_name("exported.pt")
    checkpoint.export(path, exported)
    loaded = checkpoint.load(exported)
    assert exported.stat().st_size < path.stat().st_size
    assert same(loaded["model"], state["model"]) and loaded["config"] == state["config"]
    assert [row["test_loss"] for row in loaded["history"]] == [
        row["test_loss"] for row in state["history"]
    ]


@pytest.mark.parametrize(("name", "broken"), [("optimizer", {"state": {}}), ("scheduler", 3)])
def test_what_the_optimizer_cannot_take_is_refused_in_one_line(name, broken, state):
    config, parts = state["config"], parts_of(state["config"])
    with pytest.raises(CheckpointError, match=f"its {name} is not the {name} of this program"):
        checkpoint.restore(state | {name: broken}, config, **parts)
    assert checkpoint.restore(state, config, **parts) == state["history"]
