"""The hand-derived data of the toy nets against two counters that splitnet did not write."""

import re
import warnings
from collections import defaultdict

import pytest
import torch
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from splitnet.models.build import build_model
from splitnet.models.reference import BuiltModel, ModelRef
from splitnet.models.toy import TOY_NETS, ToyChain, ToyNet

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # fvcore scripts a function on import, which torch deprecates
    from fvcore.nn import FlopCountAnalysis

nets = pytest.mark.parametrize("name", list(TOY_NETS))


def flops_by_module(toy: ToyNet, built: BuiltModel) -> dict[str, int]:
    """The hand-derived FLOPs by module path: a second use (`conv_1`) counts for its module (`conv`)."""
    paths = {path for path, _ in built.module.named_modules()}
    counts: dict[str, int] = defaultdict(int)
    for layer, flops in toy.flops_by_layer.items():
        counts[layer if layer in paths else re.sub(r"_\d+$", "", layer)] += flops
    return {path: flops for path, flops in counts.items() if flops}


@nets
def test_flops_equal_fvcores_per_module(name: str) -> None:
    built = build_model(ModelRef(name))
    analysis = FlopCountAnalysis(built.module, built.args).unsupported_ops_warnings(False)
    analysis.uncalled_modules_warnings(False)
    leaves = {path for path, module in built.module.named_modules() if not list(module.children())}
    counted = {path: int(flops) for path, flops in analysis.by_module().items() if path in leaves and flops}
    assert flops_by_module(TOY_NETS[name], built) == counted
    assert sum(TOY_NETS[name].flops_by_layer.values()) == analysis.total()


@nets
def test_flops_are_half_of_torchs_count(name: str) -> None:
    built = build_model(ModelRef(name))
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        built.module(*built.args)
    assert sum(TOY_NETS[name].flops_by_layer.values()) * 2 == counter.get_total_flops()


@nets
@pytest.mark.parametrize("batch", [1, 3])
def test_outputs_have_the_stated_shapes_and_depend_on_the_input(name: str, batch: int) -> None:
    built = build_model(ModelRef(name, batch=batch))
    other = build_model(ModelRef(name, batch=batch, seed=1)).args
    with torch.inference_mode():
        outputs = tree_leaves(built.module(*(arg.clone() for arg in built.args)))
        others = tree_leaves(built.module(*other))
    assert [tuple(output.shape) for output in outputs] == [
        (batch, *shape[1:]) for shape in TOY_NETS[name].output_shapes
    ]
    assert all(output.isfinite().all() and output.std() > 1e-3 for output in outputs)
    assert not any(torch.equal(one, two) for one, two in zip(outputs, others, strict=True))


@nets
def test_first_and_last_cut_are_the_inputs_and_the_outputs(name: str) -> None:
    toy = TOY_NETS[name]

    def nbytes(shapes: tuple[tuple[int, ...], ...]) -> int:
        return 4 * sum(torch.Size(shape).numel() for shape in shapes)

    assert toy.live_bytes[0] == nbytes(toy.input_shapes)
    assert toy.live_bytes[-1] == nbytes(toy.output_shapes)


def test_live_bytes_that_do_not_fit_the_layers_are_a_defect() -> None:
    with pytest.raises(ValueError, match="out of range"):
        ToyNet("broken", ToyChain, ((1,),), {"a": 0}, ((1,),), (4, 4), refused_cuts=(2,))
    with pytest.raises(ValueError, match="1 cuts, 1 layers"):
        ToyNet("broken", ToyChain, ((1,),), {"a": 0}, ((1,),), (4,))
