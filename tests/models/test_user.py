"""Users' factories: what they may return, and one line that says what is wrong when they do not."""

import sys
import textwrap
from pathlib import Path

import pytest
import torch

from splitnet.errors import ModelError
from splitnet.models.build import build_model
from splitnet.models.reference import ModelRef, is_code

NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 2)

    def forward(self, x, scale=None):
        return self.fc(x) if scale is None else self.fc(x) * scale

ROWS = torch.arange(12.).view(3, 4)
not_callable = 3

def bare(): return Net()
def with_tensor(): return Net(), ROWS
def with_tuple(): return Net(), (ROWS, torch.ones(3, 1))
def with_list(): return Net(), [ROWS]
def with_dict(): return Net(), {"x": ROWS, "scale": torch.ones(3, 1)}
def mixed_batch(): return Net(), (ROWS, torch.ones(1))
def returns_none(): return None
def returns_text_inputs(): return Net(), "x"
def returns_no_tensor(): return Net(), (1, 2)
def returns_odd_keys(): return Net(), {1: ROWS}
def raises(): raise ValueError("no such\\nlayer")
def raises_deep(): return torch.zeros(2).view(3)
def exits(): raise SystemExit(2)
def wants_arguments(width): return Net()
"""


@pytest.fixture
def net(tmp_path: Path) -> str:
    path = tmp_path / "net.py"
    path.write_text(NET)
    return str(path)


def error_of(ref: ModelRef) -> str:
    with pytest.raises(ModelError) as caught:
        build_model(ref)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_bare_module_takes_the_input_shape(net: str) -> None:
    built = build_model(ModelRef(f"{net}:bare", batch=2, input_shape=((4,),)))
    assert built.args[0].shape == (2, 4)
    assert built.module(*built.args).shape == (2, 2)
    assert not built.module.training
    assert not any(parameter.requires_grad for parameter in built.module.parameters())
    assert not built.random_weights


def test_the_class_itself_is_a_factory(net: str) -> None:
    assert build_model(ModelRef(f"{net}:Net", input_shape=((4,),))).module(torch.ones(1, 4)).shape == (1, 2)


def test_factories_run_under_the_seed_and_leave_the_callers_alone(net: str) -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    one, two, other = (build_model(ModelRef(f"{net}:with_tensor", seed=seed)) for seed in (4, 4, 5))
    assert torch.equal(torch.rand(3), expected)
    weights = [built.module.get_parameter("fc.weight") for built in (one, two, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(("factory", "inputs"), [("with_tensor", 1), ("with_tuple", 2), ("with_list", 1)])
@pytest.mark.parametrize("batch", [1, 3, 7])
def test_example_inputs_are_brought_to_the_batch(net: str, factory: str, inputs: int, batch: int) -> None:
    built = build_model(ModelRef(f"{net}:{factory}", batch=batch))
    assert len(built.args) == inputs
    assert built.kwargs == {}
    rows = torch.arange(12.0).view(3, 4)
    assert torch.equal(built.args[0], torch.stack([rows[i % 3] for i in range(batch)]))
    assert built.module(*built.args).shape == (batch, 2)


def test_dict_inputs_are_keywords(net: str) -> None:
    built = build_model(ModelRef(f"{net}:with_dict", batch=2))
    assert built.args == ()
    assert {key: tuple(value.shape) for key, value in built.kwargs.items()} == {"x": (2, 4), "scale": (2, 1)}


def test_inputs_without_a_common_batch_are_taken_as_they_are(net: str) -> None:
    assert build_model(ModelRef(f"{net}:mixed_batch")).args[0].shape == (3, 4)
    said = error_of(ModelRef(f"{net}:mixed_batch", batch=2))
    assert "--batch 2" in said
    assert "drop --batch" in said


@pytest.mark.parametrize(
    ("factory", "guilty", "way_out"),
    [
        ("bare", "net.py:bare", "--input-shape 3,224,224"),
        ("with_tensr", "'with_tensr'", "near names: with_tensor"),
        ("zzzz", "'zzzz'", "it has Net"),
        ("not_callable", "a int, not a factory", "returns an nn.Module"),
        ("returns_none", "returned a NoneType", "returns an nn.Module, or (module, example_inputs)"),
        ("returns_text_inputs", "type str", "a dict of keyword inputs"),
        ("returns_no_tensor", "hold no tensor", "at least one"),
        ("returns_odd_keys", "key 1", "strings"),
        ("raises", "ValueError: no such", "(net.py:26)"),
        ("raises_deep", "RuntimeError: shape '[3]'", "(net.py:27)"),
        ("exits", "SystemExit: 2", "(net.py:28)"),
        ("wants_arguments", "TypeError", "a factory takes no arguments"),
        ("", "names no factory", "net.py:make_model"),
    ],
)
def test_bad_factories(net: str, factory: str, guilty: str, way_out: str) -> None:
    said = error_of(ModelRef(f"{net}:{factory}"))
    assert guilty in said
    assert way_out in said


@pytest.mark.parametrize(
    ("settings", "way_out"),
    [
        ({"weights": "DEFAULT"}, "load weights within"),
        ({"input_size": 32}, "--input-shape 3,224,224"),
        ({"input_shape": ((4,),)}, "drop --input-shape"),
    ],
)
def test_settings_that_do_not_apply_are_refused(net: str, settings: dict[str, str], way_out: str) -> None:
    assert way_out in error_of(ModelRef(f"{net}:with_tensor", **settings))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "guilty", "way_out"),
    [
        ("nowhere/net.py:make", "nowhere/net.py", "path/net.py:factory"),
        ("nowhere.py", "nowhere.py names no factory", "nowhere.py:make_model"),
        ("folder/file.pth", "folder/file.pth", "a .pt2 file"),
        ("no_such_package.module:make", "'no_such_package'", "install it"),
        ("json.no_such:make", "'json.no_such'", "install it"),
        ("json:no_such", "'no_such'", "it has"),
    ],
)
def test_what_cannot_be_found(name: str, guilty: str, way_out: str) -> None:
    assert is_code(name)
    said = error_of(ModelRef(name))
    assert guilty in said
    assert way_out in said


@pytest.mark.parametrize(
    ("text", "guilty"),
    [
        ("def make(:", "SyntaxError"),
        ("\nimport no_such_sibling", "ModuleNotFoundError: No module named 'no_such_sibling' (broken.py:2)"),
        ("\n\nraise RuntimeError", "RuntimeError (broken.py:3)"),
    ],
)
def test_files_that_do_not_run(tmp_path: Path, text: str, guilty: str) -> None:
    (tmp_path / "broken.py").write_text(text)
    assert guilty in error_of(ModelRef(f"{tmp_path}/broken.py:make"))


def test_siblings_import_and_do_not_leak(tmp_path: Path) -> None:
    path_before = sys.path.copy()
    for folder, width in (("one", 3), ("two", 5)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "sibling_layers.py").write_text(f"WIDTH = {width}\n")
        (tmp_path / folder / "net.py").write_text(
            textwrap.dedent(
                """
                from torch import nn
                def make():
                    from sibling_layers import WIDTH
                    return nn.Linear(4, WIDTH)
                """
            )
        )
    widths = [
        build_model(ModelRef(f"{tmp_path}/{folder}/net.py:make", input_shape=((4,),))).module.out_features
        for folder in ("one", "two")
    ]
    assert widths == [3, 5]
    assert sys.path == path_before
    assert "sibling_layers" not in sys.modules


def test_a_package_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a_users_package.py").write_text(NET)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "a_users_package", raising=False)
    built = build_model(ModelRef("a_users_package:with_tensor"))
    assert built.args[0].shape == (1, 4)
    assert "ValueError: no such (a_users_package.py:26)" in error_of(ModelRef("a_users_package:raises"))


def test_timm_and_hugging_face_as_factories(tmp_path: Path) -> None:
    (tmp_path / "hub.py").write_text(
        textwrap.dedent(
            """
            import torch

            def mixer():
                import timm
                return timm.create_model("test_vit", pretrained=False)

            def bert():
                from transformers import BertConfig, BertModel
                config = BertConfig(
                    hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
                    vocab_size=50,
                )
                return BertModel(config), {"input_ids": torch.arange(8).view(1, 8)}
            """
        )
    )
    vit = build_model(ModelRef(f"{tmp_path}/hub.py:mixer", input_shape=((3, 160, 160),)))
    bert = build_model(ModelRef(f"{tmp_path}/hub.py:bert", batch=2))
    with torch.inference_mode():
        assert vit.module(*vit.args).shape == (1, 1000)
        assert bert.module(**bert.kwargs).last_hidden_state.shape == (2, 8, 32)
