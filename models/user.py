"""Users' own models: a factory in a file (`path/to/net.py:factory`) or in a package (`package.module:make`).

A factory takes no arguments and returns a module, or `(module, example_inputs)` with the inputs as a tensor,
a tuple or list of positional inputs, or a dict of keyword inputs. It runs under a seed, so that every
process gets the same weights; what else a factory does (files, the network) is its own affair.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from splitnet.errors import ModelError
from splitnet.models.inputs import common_batch, with_batch
from splitnet.models.reference import BuiltModel, ModelRef
from splitnet.models.seeding import example_input, seeded

WANTED = "a factory returns an nn.Module, or (module, example_inputs)"


def build_user(ref: ModelRef) -> BuiltModel:
    """Call the factory that `ref.name` names.

    Args:
        ref: with `input_shape` when the factory returns a module alone. Example inputs of the factory are
            repeated or trimmed to `ref.batch`; inputs that share no batch dimension are taken as they are for
            batch 1.

    Raises:
        ModelError: the file, module or factory is missing, raises, or returns something else.
    """
    if ref.weights is not None:
        raise ModelError(f"--weights {ref.weights} is for torchvision models; load weights within {ref.name}")
    if ref.input_size is not None:
        raise ModelError(f"--input-size is for torchvision models; give {ref.name} --input-shape 3,224,224")
    source, _, attribute = ref.name.rpartition(":")
    if not source or not attribute:
        raise ModelError(f"{ref.name} names no factory; say which, as in {ref.name.rstrip(':')}:make_model")
    with seeded(ref.seed), _importable(source):
        module = _load(source)
        made = _call(_find(module, source, attribute), source, attribute, module)
    network, given = _split(made, ref.name)
    args, kwargs = _inputs(ref, given)
    network = network.to("cpu").eval().requires_grad_(False)
    return BuiltModel(ref=ref, module=network, args=args, kwargs=kwargs)


def _is_file(source: str) -> bool:
    return source.endswith(".py") or "/" in source or "\\" in source


@contextmanager
def _importable(source: str) -> Iterator[None]:
    """Modules beside the file, or in the working directory, can be imported within.

    Siblings of a file are forgotten afterwards: two files may each have their own `layers.py`.
    """
    path_before = sys.path.copy()
    loaded_before = set(sys.modules)
    folder = Path(source).resolve().parent if _is_file(source) else Path.cwd()
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path[:] = path_before
        if _is_file(source):
            for name in set(sys.modules) - loaded_before:
                origin = getattr(sys.modules[name], "__file__", None)
                if origin and Path(origin).parent == folder and not name.startswith("_splitnet_user_"):
                    del sys.modules[name]


def _load(source: str) -> ModuleType:
    if not _is_file(source):
        try:
            return importlib.import_module(source)
        except ModuleNotFoundError as error:
            if error.name is not None and (source == error.name or source.startswith(f"{error.name}.")):
                raise ModelError(
                    f"no module {error.name!r} to import for {source}; "
                    "install it, or give a file as in path/net.py:factory"
                ) from error
            raise ModelError(f"importing {source} failed: {_where(error, None)}") from error
        except (Exception, SystemExit) as error:
            raise ModelError(f"importing {source} failed: {_where(error, None)}") from error
    path = Path(source).resolve()
    if not path.is_file():
        raise ModelError(f"no file {source}; the factory's name follows a colon, as in path/net.py:factory")
    name = f"_splitnet_user_{hashlib.sha256(str(path).encode()).hexdigest()[:16]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ModelError(f"{source} is not a Python file; give path/net.py:factory")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and torch.export look a class's module up
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise ModelError(f"running {source} failed: {_where(error, str(path))}") from error
    return module


def _find(module: ModuleType, source: str, attribute: str) -> Callable[[], object]:
    found = getattr(module, attribute, None)
    if callable(found):
        return found  # type: ignore[no-any-return]
    if found is not None:
        raise ModelError(f"{attribute} in {source} is a {type(found).__name__}, not a factory; {WANTED}")
    names = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
    near = difflib.get_close_matches(attribute, names, n=3, cutoff=0.4)
    hint = f"near names: {', '.join(near)}" if near else f"it has {', '.join(names[:8]) or 'no functions'}"
    raise ModelError(f"{source} has no {attribute!r}; {hint}")


def _call(factory: Callable[[], object], source: str, attribute: str, module: ModuleType) -> object:
    try:
        return factory()
    except (Exception, SystemExit) as error:
        hint = "; a factory takes no arguments" if isinstance(error, TypeError) else ""
        where = _where(error, getattr(module, "__file__", None))
        raise ModelError(f"factory {attribute} of {source} raised {where}{hint}") from error


def _where(error: BaseException, file: str | None) -> str:
    """`ValueError: message (net.py:12)`: the last line within the user's file, or the last line of all."""
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {error.msg} ({Path(error.filename or '?').name}:{error.lineno})"
    message = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    text = f"{type(error).__name__}: {message}" if message else type(error).__name__
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if file is not None and frame.filename == file]
    outside = [frame for frame in frames if frame.filename != __file__ and "importlib" not in frame.filename]
    for frame in (own or outside)[-1:]:
        text += f" ({Path(frame.filename).name}:{frame.lineno})"
    return text


def _split(made: object, name: str) -> tuple[nn.Module, object]:
    if isinstance(made, nn.Module):
        return made, None
    if isinstance(made, tuple) and len(made) == 2 and isinstance(made[0], nn.Module):
        if not isinstance(made[1], torch.Tensor | tuple | list | dict):
            raise ModelError(
                f"{name} returned example inputs of type {type(made[1]).__name__}; "
                "give a tensor, a tuple or list of positional inputs, or a dict of keyword inputs"
            )
        return made[0], made[1]
    raise ModelError(f"{name} returned a {type(made).__name__}; {WANTED}")


def _inputs(ref: ModelRef, given: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if given is None:
        if ref.input_shape is None:
            raise ModelError(
                f"{ref.name} returned a module without example inputs; add --input-shape 3,224,224 "
                "(without batch), or return (module, example_inputs)"
            )
        return example_input(ref.input_shape, ref.batch, ref.seed), {}
    if ref.input_shape is not None:
        raise ModelError(f"{ref.name} brings its own example inputs; drop --input-shape")
    if not any(isinstance(leaf, torch.Tensor) for leaf in pytree.tree_leaves(given)):
        raise ModelError(f"the example inputs of {ref.name} hold no tensor; give at least one")
    own = common_batch(given)
    if own is None or own == 0:
        if ref.batch != 1:
            raise ModelError(
                f"the example inputs of {ref.name} share no batch dimension, so --batch {ref.batch} "
                "cannot be made; drop --batch, or give inputs whose first dimension is the batch"
            )
    elif own != ref.batch:
        given = with_batch(given, own, ref.batch)
    if isinstance(given, dict):
        odd = [key for key in given if not isinstance(key, str)]
        if odd:
            raise ModelError(f"the example inputs of {ref.name} have the key {odd[0]!r}; keywords are strings")
        return (), dict(given)
    return ((given,) if isinstance(given, torch.Tensor) else tuple(given)), {}
