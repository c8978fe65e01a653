"""A checkpoint is written whole or not at all; what is read is what was written, or an error."""

import errno
import functools
import io
import operator
import os
import pickle
import random
import zipfile

import files
import main
from dataset import MNIST
from files import CheckpointError
from model import MODELS
from training import checkpoint
from training.config import Config
from training.report import Report

import pytest
import torch
from archives import damaged
from helpers import same, write_data


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


@pytest.fixture
def plain(path):
    """The checkpoint as it is on disk."""
    return torch.load(path, weights_only=True)


def refusal(path):
    """The one line that says why a file is not loaded, or its network not built."""
    with pytest.raises(CheckpointError) as error:
        checkpoint.network(checkpoint.load(path))
    line = str(error.value)
    assert ";" in line and "\n" not in line and "weights_only" not in line
    return line


def test_what_is_loaded_is_what_was_saved(tmp_path, state, monkeypatch):
    """With what else a student keeps in it."""
    monkeypatch.chdir(tmp_path)
    state |= {"notes": "mine", "ema": {"layers.1.weight": torch.ones(2)}}
    state["model"]["layers.1.bias"].fill_(-torch.inf)  # of a mask, for example
    state["history"][0]["f1"] = 0.5
    checkpoint.write_state(checkpoint.RUNS / "again" / "checkpoint.pt", state)
    for name in ("again", "runs/again", "runs/again/checkpoint.pt"):
        loaded = checkpoint.load(name)
        assert same(loaded, state)
        checkpoint.network(loaded)


def test_no_damage_changes_what_is_loaded(path, content, state):
    """1,000 flipped bits, half in the zip's structure at its end, most noticed; 150 truncations."""
    draw, size, refused = random.Random(0), len(content), 0
    bits = [draw.randrange(8 * (size - 3000) * (flip % 2), 8 * size) for flip in range(1000)]
    cuts = [0, 1, 22, *draw.sample(range(size), 100), *range(size - 47, size)]
    for damaged_content in damaged(content, bits, cuts):
        path.unlink()  # to write a new file takes a third of the time
        path.write_bytes(damaged_content)
        try:
            assert same(checkpoint.load(path), state) and len(damaged_content) == size
        except CheckpointError as error:
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
            refused += 1
    assert refused > 600 + len(cuts)


class Call:
    """Pickles as a call: what a malicious file does."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


LEGACY = {"_use_new_zipfile_serialization": False}


def saved(thing, **how):
    file = io.BytesIO()
    torch.save(thing, file, **how)
    return file.getvalue()


def test_no_malicious_file_runs_its_code(tmp_path, path, plain):
    sentinel = tmp_path / "it ran"
    script = f"open({str(sentinel)!r}, 'w').close()"
    system, evaluate = Call(os.system, f"touch '{sentinel}'"), Call(eval, script)
    contents = [
        pickle.dumps(evaluate, 0),
        pickle.dumps(system),
        saved(system),
        saved(evaluate),
        saved(system, **LEGACY),
        saved(plain | {"history": [{"epoch": [Call(open, str(sentinel), "w")]}]}),
        saved(plain | {"versions": Call(exec, script)}),
        saved(Call(getattr, Call(__import__, "os"), "system")),
    ]
    for evil in contents:
        path.write_bytes(evil)
        refusal(path)
        assert not sentinel.exists(), evil
    pickle.loads(contents[0])
    assert sentinel.exists(), "the files are harmless, and so prove nothing"


def test_nothing_huge_is_unpacked_or_allocated(path, plain, monkeypatch):
    os.truncate(path, checkpoint.MAX_BYTES + 1)  # sparse
    assert "too large" in refusal(path)
    plain["notes"] = functools.reduce(lambda part, _: [part] * 9, range(99), 0)  # 9**99 places
    torch.save(plain, path)
    checkpoint.load(path)
    plain["model"]["layers.1.weight"] = torch.zeros(1).expand(10**7, 784)  # strides of 0
    torch.save(plain, path)
    assert "size mismatch" in refusal(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", bytes(10**6))
    monkeypatch.setattr(zipfile.ZipFile, "testzip", lambda _: pytest.fail("unpacked"))
    assert "compressed" in refusal(path)


OTHERS = [  # the content of a file, what the line says
    (b"\x89PNG\r\n\x1a\n", "damaged or not a checkpoint"),
    (b"PK\x05\x06" + bytes(18), "use another checkpoint"),
    (saved({"fc.weight": torch.ones(3)}), "holds no weights of lenet5 or mlp"),
    (saved(MODELS["mlp"](hidden=56).state_dict()), "holds no weights of lenet5 or mlp"),
    (saved({"epoch": 3}), "holds no weights"),
    (saved(MODELS["mlp"]()), "model.state_dict()"),
    (saved(MODELS["mlp"]().state_dict(), **LEGACY), "before 2020; save it again with torch.save"),
]


@pytest.mark.parametrize(("other", "words"), OTHERS, ids=lambda value: str(value)[:30])
def test_another_kind_of_file_is_refused(other, words, path):
    path.write_bytes(other)
    assert words in refusal(path)


GONE, NAN = object(), torch.full((2,), torch.nan)  # of two hidden units
CHANGES = [  # where in a sound checkpoint, and what is put there
    (("config", "model"), "vgg"),
    (("config", "model"), "lenet5"),
    (("config", "hidden"), 3),
    (("config", "hidden"), 10**18),
    (("config", "option of a later version"), True),
    (("model", "layers.1.bias"), GONE),
    (("model", "layers.1.bias"), NAN),
    (("model", "layers.1.bias"), 3),
    (("scheduler",), GONE),
    (("versions",), "2.13"),
    (("epoch",), 3),
    (("history", 0, "test_loss"), float("inf")),
    (("history", 0, "test_loss"), "0.1"),
    (("history", 0, "lr"), GONE),
]


@pytest.mark.parametrize(("place", "value"), CHANGES)
def test_a_sound_file_with_other_contents_is_refused(place, value, path, plain):
    """When it is read, or when its network is built from it."""
    *places, key = place
    part = functools.reduce(operator.getitem, places, plain)
    part[key] = value
    if value is GONE:
        del part[key]
    torch.save(plain, path)
    refusal(path)


FORMS = [  # around the weights, the prefix of their names, what the line says was taken
    (lambda weights: weights, "", ""),
    (lambda weights: {"names": {0: "zero"}, "state_dict": weights}, "", "its 'state_dict'"),
    (lambda weights: {"model_state_dict": weights}, "", "its 'model_state_dict'"),
    (lambda weights: weights, "module.", "without 'module.'"),  # DataParallel's
    (lambda weights: weights, "module._orig_mod.", "without 'module._orig_mod.'"),
    (lambda weights: {"state_dict": weights}, "model.", "its 'state_dict', without 'model.'"),
]


@pytest.mark.parametrize(("around", "prefix", "words"), FORMS)
def test_weights_that_somebody_else_saved_are_loaded(around, prefix, words, path, capsys):
    for name, network in MODELS.items():
        weights = dict(network().state_dict())
        torch.save(around({prefix + key: weights[key] for key in weights}), path)
        loaded = checkpoint.load(path)
        assert loaded["config"].model == name and loaded["history"] == []
        assert same(dict(checkpoint.network(loaded).state_dict()), weights)
        note = f"note: the weights are {words}, and fit {name}\n" if words else ""
        assert capsys.readouterr().err == note


@pytest.mark.parametrize("eighth", range(8))
def test_a_full_disk_leaves_the_old_file(eighth, path, content, state):
    """The kernel itself stops the write; Python ignores its signal."""
    resource = pytest.importorskip("resource")
    limit, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (eighth * len(content) // 8, most))
    try:
        with pytest.raises(OSError) as error:
            checkpoint.write_state(path, state)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, most))
    assert error.value.errno == errno.EFBIG and error.value.filename == str(path)
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
    assert steps[1][1].parent == path.parent and path.read_bytes() == b"new"


@pytest.mark.parametrize(("name", "broken"), [("optimizer", {"state": {}}), ("scheduler", 3)])
def test_what_the_optimizer_cannot_take_is_refused_in_one_line(name, broken, state):
    model = checkpoint.network(state)
    optimizer, scheduler = main.optimization(model, state["config"], 10)
    parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
    with pytest.raises(CheckpointError, match=f"its {name} is not the {name} of this program"):
        checkpoint.restore(state | {name: broken}, state["config"], **parts)
    assert checkpoint.restore(state, state["config"], **parts) == state["history"]
