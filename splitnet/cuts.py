"""Which cuts a user means, and which few tell the most.

all            every cut that is not refused
12             so many informative ones, both ends included
at:0,5,69      exactly these, by number or layer name
layer2.0.relu  the one after that layer
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Protocol

from splitnet.errors import CutError

DEFAULT_COUNT = 12


class CutLike(Protocol):
    """What selection needs to know of a cut."""

    @property
    def index(self) -> int: ...
    @property
    def layer(self) -> str: ...
    @property
    def clean(self) -> bool: ...
    @property
    def payload_bytes(self) -> int: ...
    @property
    def refused(self) -> str | None: ...


def select_cuts(text: str, cuts: Sequence[CutLike], model: str) -> list[int]:
    """The cuts that `text` asks for, in order.

    Raises:
        CutError: a cut out of range, a layer that does not exist, a refused cut, or an empty wish.
    """
    text = text.strip()
    if text == "all":
        return [cut.index for cut in cuts if cut.refused is None]
    if re.fullmatch(r"\d{1,9}", text, re.ASCII):
        count = int(text)
        if count < 1:
            raise CutError(f"--cuts {text} asks for no cut; give a count of at least 1, or at:{text} for cut {text}")
        return informative_cuts(cuts, count)
    wanted = text.removeprefix("at:").split(",") if text.startswith("at:") else [text]
    return sorted({find_cut(name.strip(), cuts, model) for name in wanted})


def find_cut(where: str, cuts: Sequence[CutLike], model: str) -> int:
    """The index of the cut with this number or after this layer.

    Raises:
        CutError: there is none, or it is refused.
    """
    last = len(cuts) - 1
    if re.fullmatch(r"[+-]?\d{1,9}", where, re.ASCII):
        index = int(where)
        if not 0 <= index <= last:
            raise CutError(
                f"cut {where} is out of range: {model} has cuts 0..{last} "
                f"(0 = all on the AP, {last} = all on the gateway)"
            )
        found = cuts[index]
    else:
        named = [cut for cut in cuts if cut.layer == where]
        if not named:
            near = difflib.get_close_matches(where, [cut.layer for cut in cuts], n=3, cutoff=0.4)
            hint = f"; near names: {', '.join(near)}" if near else ""
            raise CutError(f"{model} has no layer {where[:60]!r}{hint}; `splitnet layers {model}` lists them")
        found = named[0]
    if found.refused:
        raise CutError(f"cut {found.index} of {model} (after {found.layer}) is refused: {found.refused}")
    return found.index


def informative_cuts(cuts: Sequence[CutLike], count: int = DEFAULT_COUNT) -> list[int]:
    """At most `count` cuts: both ends, and from each stretch of layers the cheapest to send, clean ones first.

    Cut 0 is all on the AP and the last all on the gateway. In between the layers fall into equal stretches; of
    each the cut with the least payload is taken, and of those with equal payload the last, since the bottom has
    then done more with it.
    """
    usable = [cut for cut in cuts if cut.refused is None]
    if len(usable) <= count:
        return [cut.index for cut in usable]
    if count == 1:
        return [usable[-1].index]
    inner = usable[1:-1]
    clean = [cut for cut in inner if cut.clean]
    pool = clean if len(clean) >= count - 2 else inner
    chosen = []
    for stretch in range(count - 2):
        part = pool[stretch * len(pool) // (count - 2) : (stretch + 1) * len(pool) // (count - 2)]
        chosen.append(min(part, key=lambda cut: (cut.payload_bytes, -cut.index)).index)
    return [usable[0].index, *chosen, usable[-1].index]
