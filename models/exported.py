"""Saved `torch.export` programs (`.pt2`), loaded so that nothing in them is unpickled or evaluated unchecked.

What was found in `torch.export.load` (torch 2.15; 2.6 from its published source):

- the example inputs, and in older files all tensors, are `torch.save` records; 2.15 tries weights-only first
  and then *falls back to a full unpickle*, 2.6 always unpickles in full;
- weights marked `use_pickle` and "opaque" constants are unpickled in full;
- symbolic sizes pass through `sympy.sympify`, which evaluates Python; guards, names and string constants
  become Python source that is executed; operators are looked up by attribute from `torch` and `operator`; a
  pytree spec may import a module; a folder of compiled AOTInductor code would be loaded as native code.

So the file is read once and checked record by record; every record must be of a known kind; the checked bytes
are packed anew, without guards, and torch reads that, with weights-only loads forced. What remains is the
trust that any graph asks for: its operators run. Therefore `reference.is_code` counts a `.pt2` as code.
"""

from __future__ import annotations

import io
import json
import logging
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.utils import _pytree as pytree

from splitnet.errors import ModelError
from splitnet.models.inputs import common_batch, with_batch
from splitnet.models.reference import BuiltModel, ModelRef
from splitnet.models.weights_only import weights_only
from splitnet.tracing import module_of

_KINDS = {
    "program": re.compile(r"[^/]+/models/[^/]+\.json|serialized_exported_program\.json"),
    "payload": re.compile(r"[^/]+/data/(weights|constants)/[^/]+_config\.json"),
    "saved": re.compile(
        r"[^/]+/data/(sample_inputs|weights|constants)/[^/]+\.pt"
        r"|serialized_(state_dict|constants|example_inputs)\.pt"
    ),
    "plain": re.compile(
        r"[^/]+/data/weights/weight_\d+|[^/]+/data/constants/tensor_\d+"
        r"|[^/]+/(archive_format|archive_version|byteorder|version|\.data/(version|serialization_id))"
        r"|version|byteorder"
    ),
    "dropped": re.compile(r"[^/]+/extra/.*|extra_files/.*"),
}
"""What a plain exported program is made of: since torch 2.7 under one folder, before that flat."""

_PAYLOAD = re.compile(r"(weight|tensor)_\d+")
_TARGET = re.compile(
    r"torch\.ops\.(?!__|load_library|import_module|loaded_libraries)\w+\.\w+(\.(?!__)\w+)?"
    r"|_operator\.(getitem|add|sub|mul|floordiv|truediv|mod|pow|neg|pos|eq|ne|lt|le|gt|ge|and_|or_|not_)"
    r"|math\.(?!_)\w+|torch\.(_?sym_\w+)"
)
_NAME = re.compile(r"[\w.\-]*")
_TEXT = re.compile(r"[^'\"\\\n\r{}]*")
_EXPRESSION = re.compile(r"(\s|\d+(\.\d*)?(e[+-]?\d+)?|[A-Za-z_]\w*|'[A-Za-z]\w*'|[-+*/%<>=!&|~(),])*")
_WORDS = re.compile(
    r"(?:[suz]|zuf|zf)\d+|oo|int_oo|True|False|positive|nonnegative|integer|real|Symbol|Integer|Float|Rational"
    r"|Add|Mul|Pow|Eq|Ne|Lt|Le|Gt|Ge|And|Or|Not|Max|Min|Mod|floor|ceiling|(?:Une|E)quality"
    r"|(?:Strict)?(?:Less|Greater)Than|(?:Floor|Clean|Ceil|FloatTrue|IntTrue)Div|ModularIndexing|Where|PythonMod"
    r"|(?:Ceil|Floor|Trunc|Round)ToInt|TruncToFloat|ToFloat|RoundDecimal|[LR]Shift|PowByNatural|FloatPow"
    r"|IsNonOverlappingAndDenseIndicator|Identity"
)
"""Names of sizes, and the functions over them that torch writes."""
_IMPORTS = frozenset({"__enum__", "default_factory_module"})
"""Keys of a pytree spec at which torch imports whatever module the file names."""
_UNREAD = frozenset({"metadata"})
"""Free text (stack traces) that torch keeps and never evaluates."""


def build_exported(ref: ModelRef) -> BuiltModel:
    """The program in a `.pt2` file, with the example inputs that were saved in it.

    Raises:
        ModelError: no such file, not a saved program, content that would have to be unpickled or evaluated, a
            batch that the program was not exported for, or a device other than the CPU.
    """
    for given, option in (
        (ref.weights, "weights"),
        (ref.input_size, "input-size"),
        (ref.input_shape, "input-shape"),
    ):
        if given is not None:
            raise ModelError(f"{ref.name} has its weights and inputs in the file; drop --{option}")
    program = load_exported(Path(ref.name))
    if program.example_inputs is None:
        raise ModelError(f"{ref.name} was saved without example inputs; export it again with them")
    args, kwargs = program.example_inputs
    held = [*program.state_dict.values(), *program.constants.values(), *pytree.tree_leaves((args, kwargs))]
    devices = {str(tensor.device) for tensor in held if isinstance(tensor, torch.Tensor)} - {"cpu"}
    if devices:
        raise ModelError(f"{ref.name} was exported on {', '.join(sorted(devices))}; export it on the CPU")
    own = common_batch((args, kwargs))
    if own is None and ref.batch != 1:
        raise ModelError(f"the inputs of {ref.name} share no batch dimension; drop --batch {ref.batch}")
    if own is not None and own != ref.batch:
        if not _batch_is_dynamic(program):
            raise ModelError(
                f"{ref.name} was exported for batch {own}, not {ref.batch}: use --batch {own}, or export it again"
            )
        args, kwargs = with_batch((args, kwargs), own, ref.batch)
    module = module_of(program)
    return BuiltModel(
        ref=ref, module=module.requires_grad_(False), args=tuple(args), kwargs=dict(kwargs), exported=program
    )


def load_exported(path: Path) -> torch.export.ExportedProgram:
    """Check and load a saved program.

    Raises:
        ModelError: one line that names the file and what is wrong with it.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or type(error).__name__}") from error
    checked = _repack(_check(path, _records(path, content)))
    try:
        with weights_only(), _quiet():
            return torch.export.load(checked)
    except Exception as error:  # KeyError, AssertionError, RuntimeError: torch is not particular
        raise ModelError(
            f"{path} cannot be loaded by torch {torch.__version__} ({_line(error)}); export it again with this torch"
        ) from error


def _records(path: Path, content: bytes) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
            if len({name.lower() for name in names}) != len(names):
                raise ModelError(f"{path} has two records of the same name; export it again")
            return {name: archive.read(name) for name in names}
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, OSError, ValueError) as error:
        raise ModelError(
            f"{path} is not a saved program, or is cut off ({_line(error)}); make one with torch.export.save"
        ) from error


def _check(path: Path, records: dict[str, bytes]) -> dict[str, bytes]:
    """The records that torch may read."""
    checked = {}
    programs = 0
    for name, content in records.items():
        kind = next((kind for kind, pattern in _KINDS.items() if pattern.fullmatch(name)), None)
        if kind is None:
            raise ModelError(
                f"{path} is refused: record {name[:80]!r} is no part of a plain exported program; "
                "make one with torch.export.save"
            )
        if kind == "dropped":
            continue
        try:
            if kind == "program":
                programs += 1
                content = _check_program(content)
            elif kind == "payload":
                _check_payload(content)
            elif kind == "saved" and content:
                torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
        except Exception as error:  # malformed JSON, a foreign pickle, a failed check: all mean the same
            raise ModelError(
                f"{path} is refused: record {name[:80]!r} is not plain tensors and operators ({_line(error)})"
            ) from error
        checked[name] = content
    if programs != 1:
        raise ModelError(f"{path} holds {programs} exported programs, not one; use torch.export.save")
    return checked


def _check_program(content: bytes) -> bytes:
    document = json.loads(content)
    if not isinstance(document, dict):
        raise ValueError("the program is not a JSON object")
    if "guards_code" in document:
        document["guards_code"] = []  # would be executed; recording compares shapes anyway
    _walk("", document)
    return json.dumps(document).encode()


def _check_payload(content: bytes) -> None:
    for name, entry in json.loads(content)["config"].items():
        if entry["use_pickle"]:
            raise ValueError(f"{name} is pickled")
        if not _PAYLOAD.fullmatch(entry["path_name"]):
            raise ValueError(f"{name} is kept in {entry['path_name']!r}")
    _walk("", json.loads(content))


def _walk(key: str, value: Any) -> None:
    """Every string of the program must be of the form that its key allows."""
    if isinstance(value, dict):
        for inner, item in value.items():
            if inner in _IMPORTS:
                raise ValueError(f"{inner!r} would import a module")
            if not _NAME.fullmatch(inner) and key != "range_constraints":
                raise ValueError(f"name {inner!r}")
            if inner not in _UNREAD:
                _walk(inner, item)
    elif isinstance(value, list):
        for item in value:
            _walk(key, item)
    elif isinstance(value, str):
        _check_text(key, value)


def _check_text(key: str, value: str) -> None:
    if key in ("in_spec", "out_spec"):
        _check_spec(json.loads(value) if value else None, free=key == "out_spec")
    elif key == "expr_str":
        words = re.findall(r"[A-Za-z_]\w*", value)
        if not all(map(_WORDS.fullmatch, words)) or not _EXPRESSION.fullmatch(value):
            raise ValueError(f"size expression {value[:60]!r}")
    elif key == "target":
        if not _TARGET.fullmatch(value):
            raise ValueError(f"operator {value[:60]!r}")
    elif key in ("as_string", "torch_version"):
        if not _TEXT.fullmatch(value):
            raise ValueError(f"text {value[:60]!r}")
    elif not _NAME.fullmatch(value):
        raise ValueError(f"{key} {value[:60]!r}")


def _check_spec(value: Any, *, free: bool) -> None:
    """A pytree spec, with JSON again in `context`. Names of inputs become source, keys of outputs do not."""
    if isinstance(value, dict):
        for inner, item in value.items():
            if inner in _IMPORTS:
                raise ValueError(f"{inner!r} would import a module")
            nested = inner == "context" and isinstance(item, str)
            _check_spec(json.loads(item) if nested else item, free=free)
    elif isinstance(value, list):
        for item in value:
            _check_spec(item, free=free)
    elif isinstance(value, str) and not free and not _NAME.fullmatch(value):
        raise ValueError(f"input name {value[:60]!r}")


def _repack(records: dict[str, bytes]) -> io.BytesIO:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for name, content in records.items():
            archive.writestr(name, content)
    packed.seek(0)
    return packed


def _batch_is_dynamic(program: torch.export.ExportedProgram) -> bool:
    users = set(program.graph_signature.user_inputs)
    inputs = [node for node in program.graph.nodes if node.op == "placeholder" and node.name in users]
    values = [node.meta.get("val") for node in inputs]
    sizes = [value.shape[0] for value in values if isinstance(value, torch.Tensor) and value.dim()]
    return bool(sizes) and all(isinstance(size, torch.SymInt) for size in sizes)


@contextmanager
def _quiet() -> Iterator[None]:
    """torch logs each failed attempt with a traceback; the error that follows says it in a line."""
    logger = logging.getLogger("torch.export")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _line(error: BaseException) -> str:
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {first[:160]}" if first else type(error).__name__
