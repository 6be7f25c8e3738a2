"""Saved programs: round trips, and files that would have run something while they were loaded."""

import contextlib
import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from splitnet.errors import ModelError
from splitnet.models.build import build_model
from splitnet.models.exported import load_exported
from splitnet.models.reference import ModelRef, is_code
from splitnet.models.weights_only import FORCE, FORCE_NOT, weights_only


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.fc = nn.Linear(4, 2)
        self.register_buffer("shift", torch.ones(2))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"an odd key'": self.fc(self.conv(x).relu().mean((2, 3))) + self.shift + torch.tensor([1.0, 2.0])}


def save(path: Path, batch: int = 2, *, dynamic: bool = False) -> nn.Module:
    model = Small().eval()
    example = torch.randn(batch, 3, 8, 8)
    shapes = {"x": {0: torch.export.Dim("batch", min=1, max=64)}} if dynamic else None
    torch.export.save(torch.export.export(model, (example,), dynamic_shapes=shapes, strict=False), path)
    return model


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "small.pt2"
    save(path)
    return path


@pytest.fixture(scope="module")
def dynamic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "dynamic.pt2"
    save(path, dynamic=True)
    return path


def error_of(ref: ModelRef) -> str:
    with pytest.raises(ModelError) as caught:
        build_model(ref)
    assert "\n" not in str(caught.value)
    assert Path(ref.name).name in str(caught.value)
    return str(caught.value)


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.folder,)


def tampered(source: Path, target: Path, change: Callable[[str, bytes], bytes], **extra: bytes) -> ModelRef:
    """A copy of a saved program in which every record went through `change`."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        root = old.namelist()[0].split("/")[0]
        for name in old.namelist():
            new.writestr(name, change(name.removeprefix(f"{root}/"), old.read(name)))
        for name, content in extra.items():
            new.writestr(f"{root}/{name.replace('__', '/')}", content)
    return ModelRef(str(target), batch=2)


def edit_program(change: Callable[[dict[str, Any]], None]) -> Callable[[str, bytes], bytes]:
    def edit(name: str, content: bytes) -> bytes:
        if not name.startswith(("models/", "serialized_exported_program")):
            return content
        document = json.loads(content)
        change(document)
        return json.dumps(document).encode()

    return edit


def same(name: str, content: bytes) -> bytes:
    return content


def test_round_trip(tmp_path: Path) -> None:
    model = save(tmp_path / "net.pt2")
    built = build_model(ModelRef(str(tmp_path / "net.pt2"), batch=2))
    assert is_code(built.ref.name)
    assert built.exported is not None
    assert built.args[0].shape == (2, 3, 8, 8)
    assert not any(parameter.requires_grad for parameter in built.module.parameters())
    with torch.inference_mode():
        (expected,), (got,) = model(*built.args).values(), built.module(*built.args).values()
    assert torch.equal(got, expected)


def test_the_batch_is_the_programs_own(saved: Path) -> None:
    said = error_of(ModelRef(str(saved)))
    assert "exported for batch 2, not 1" in said
    assert "use --batch 2" in said


def test_a_dynamic_batch_takes_any(dynamic: Path) -> None:
    built = build_model(ModelRef(str(dynamic), batch=5))
    assert built.args[0].shape[0] == 5
    assert next(iter(built.module(*built.args).values())).shape == (5, 2)


@pytest.mark.parametrize(
    "settings", [{"weights": "DEFAULT"}, {"input_size": 8}, {"input_shape": ((3, 8, 8),)}], ids=str
)
def test_settings_that_do_not_apply_are_refused(saved: Path, settings: dict[str, Any]) -> None:
    assert f"drop --{next(iter(settings)).replace('_', '-')}" in error_of(ModelRef(str(saved), **settings))


def test_files_that_are_no_program(saved: Path, tmp_path: Path) -> None:
    assert "cannot read" in error_of(ModelRef(str(tmp_path / "missing.pt2")))
    files = {
        "empty.pt2": b"",
        "text.pt2": b"hello",
        "half.pt2": saved.read_bytes()[: saved.stat().st_size // 2],
        "pickle.pt2": pickle.dumps(Bomb(tmp_path / "ran")),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        assert "make one with torch.export.save" in error_of(ModelRef(str(tmp_path / name)))
    torch.save(Small(), tmp_path / "full.pt2")
    assert "no part of a plain exported program" in error_of(ModelRef(str(tmp_path / "full.pt2")))
    with zipfile.ZipFile(tmp_path / "foreign.pt2", "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "readme.txt" in error_of(ModelRef(str(tmp_path / "foreign.pt2")))
    with zipfile.ZipFile(tmp_path / "none.pt2", "w"):
        pass
    assert "0 exported programs" in error_of(ModelRef(str(tmp_path / "none.pt2")))


def test_a_corrupt_record(saved: Path, tmp_path: Path) -> None:
    content = bytearray(saved.read_bytes())
    content[content.find(b'"graph_module"') + 3] ^= 0xFF
    (tmp_path / "flipped.pt2").write_bytes(content)
    assert "flipped.pt2" in error_of(ModelRef(str(tmp_path / "flipped.pt2"), batch=2))


needs_folders = pytest.mark.skipif(
    tuple(map(int, torch.__version__.split(".")[:2])) < (2, 9),
    reason="older saved programs have other records",
)


@needs_folders
def test_a_pickle_among_the_example_inputs_is_not_loaded(saved: Path, tmp_path: Path) -> None:
    """Control: torch itself falls back to a full unpickle and runs it."""
    planted = io.BytesIO()
    torch.save((Bomb(tmp_path / "ran"),), planted)

    def plant(name: str, content: bytes) -> bytes:
        return planted.getvalue() if name.startswith("data/sample_inputs") else content

    ref = tampered(saved, tmp_path / "planted.pt2", plant)
    assert "sample_inputs" in error_of(ref)
    assert not (tmp_path / "ran").exists()
    with contextlib.suppress(Exception):
        torch.export.load(ref.name)
    assert (tmp_path / "ran").exists(), "torch.export.load has become safe: exported.py could check less"


@needs_folders
def test_pickled_weights_and_objects_are_refused(saved: Path, tmp_path: Path) -> None:
    def mark_pickled(name: str, content: bytes) -> bytes:
        return content.replace(b'"use_pickle": false', b'"use_pickle": true', 1)

    def redirect(name: str, content: bytes) -> bytes:
        return content.replace(b'"weight_0"', b'"../sample_inputs/model.pt"', 1) if "config" in name else content

    assert "is pickled" in error_of(tampered(saved, tmp_path / "a.pt2", mark_pickled))
    assert "sample_inputs/model.pt" in error_of(tampered(saved, tmp_path / "b.pt2", redirect))
    opaque = {"data__constants__opaque_obj_0": pickle.dumps(Bomb(tmp_path / "ran"))}
    assert "opaque_obj_0" in error_of(tampered(saved, tmp_path / "c.pt2", same, **opaque))
    native = {"data__aotinductor__model__code.so": b"\x7fELF"}
    assert "aotinductor" in error_of(tampered(saved, tmp_path / "d.pt2", same, **native))


@needs_folders
def test_two_records_of_one_name_are_refused(saved: Path, tmp_path: Path) -> None:
    twice = {"MODELS__MODEL.JSON": b"{}"}
    assert "two records" in error_of(tampered(saved, tmp_path / "twice.pt2", same, **twice))


EVIL = "__import__('os').putenv('SPLITNET_BOMB', '1')"


def set_target(document: dict[str, Any], target: str) -> None:
    document["graph_module"]["graph"]["nodes"][0]["target"] = target


def set_spec(document: dict[str, Any], context: str) -> None:
    spec = json.dumps([1, {"type": "builtins.dict", "context": context, "children_spec": []}])
    document["graph_module"]["module_call_graph"][0]["signature"]["in_spec"] = spec


def set_expression(document: dict[str, Any], expression: str) -> None:
    sizes = document["graph_module"]["graph"]["tensor_values"]["x"]["sizes"]
    sizes[0] = {"as_expr": {"expr_str": expression, "hint": {"as_int": 2}}}


@pytest.mark.parametrize(
    ("change", "guilty"),
    [
        (lambda document: set_target(document, "torch.hub.load"), "operator 'torch.hub.load'"),
        (lambda document: set_target(document, "torch.ops.load_library.__call__"), "operator"),
        (lambda document: set_target(document, "_operator.attrgetter"), "operator"),
        (lambda document: set_expression(document, EVIL), "size expression"),
        (lambda document: set_expression(document, "eval('1')"), "size expression"),
        (lambda document: set_expression(document, "Symbol('s0').__class__"), "size expression"),
        (lambda document: set_spec(document, '{"\\u005f_enum__": true, "fqn": "antigravity:x"}'), "__enum__"),
        (lambda document: set_spec(document, json.dumps([EVIL])), "input name"),
        (
            lambda document: document["graph_module"]["graph"]["inputs"][-1]["as_tensor"].update(name=EVIL),
            "name",
        ),
    ],
)
def test_text_that_torch_would_evaluate_is_refused(
    saved: Path, tmp_path: Path, change: Callable[[dict[str, Any]], None], guilty: str
) -> None:
    said = error_of(tampered(saved, tmp_path / "evil.pt2", edit_program(change)))
    assert "not plain tensors and operators" in said
    assert guilty in said


@needs_folders
def test_guards_are_dropped_rather_than_executed(saved: Path, tmp_path: Path) -> None:
    ref = tampered(saved, tmp_path / "guards.pt2", edit_program(lambda document: document.update(guards_code=[EVIL])))
    assert load_exported(Path(ref.name))._guards_code == []
    build_model(ref)


def test_the_guard_forces_and_restores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(FORCE_NOT, "1")
    monkeypatch.delenv(FORCE, raising=False)
    torch.save({"a": Small()}, tmp_path / "full.pt")
    with weights_only(), pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "full.pt", weights_only=False)
    assert (os.environ.get(FORCE), os.environ.get(FORCE_NOT)) == (None, "1")


def test_a_hugging_face_program(tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel

    config = BertConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, vocab_size=50
    )
    inputs = {"input_ids": torch.arange(8).view(1, 8), "attention_mask": torch.ones(1, 8, dtype=torch.int64)}
    model: nn.Module = BertModel(config)
    model.eval()
    torch.export.save(torch.export.export(model, (), inputs, strict=False), tmp_path / "bert.pt2")
    built = build_model(ModelRef(str(tmp_path / "bert.pt2")))
    assert set(built.kwargs) == set(inputs)
    assert built.module(**built.kwargs).last_hidden_state.shape == (1, 8, 32)
