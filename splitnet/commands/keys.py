"""`keys`: key pairs for members."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from splitnet.commands.options import Json, print_json
from splitnet.errors import SettingsError

WAY_OUT = "choose another folder"

app = typer.Typer()
group = typer.Typer(
    help="Make the keys with which members sign receipts, blocks and plans.",
    epilog="Example: splitnet keys new secrets --name ap-0 --name ap-1",
    rich_markup_mode=None,
)
app.add_typer(group, name="keys")


@group.callback()
def _keys() -> None:
    pass  # so that `new` is a command of its own


@group.command(
    epilog="Examples: splitnet keys new secrets | splitnet keys new secrets --name ap-0 --name gateway-0 --json"
)
def new(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Made where it is missing.")],
    name: Annotated[
        list[str] | None, typer.Option(help="Of the key's files; once for each key; `member` by default.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make Ed25519 keys: DIR/NAME.key, which only you may read, and DIR/NAME.pub; none is ever overwritten."""
    import msgspec

    from splitnet.consensus import canonical
    from splitnet.consensus.errors import KeyFileError
    from splitnet.consensus.identity import KEY_SUFFIX, PUBLIC_SUFFIX, new_key, public_bytes, write_key
    from splitnet.files import refusals

    names = name or ["member"]
    for one in names:
        try:
            msgspec.convert(one, canonical.Name)
        except msgspec.ValidationError:
            raise SettingsError(
                f"--name {one!r} is no name: give 1 to 64 letters, digits, dots, dashes and underscores"
            ) from None
        if names.count(one) > 1:
            raise SettingsError(f"--name {one} is given twice; name each key once")
    files = [folder / f"{one}{KEY_SUFFIX}" for one in names]
    with refusals(folder, WAY_OUT):
        folder.mkdir(parents=True, exist_ok=True)
    for file in files:  # all or none, but for what happens at the same time
        for taken in (file, file.with_suffix(PUBLIC_SUFFIX)):
            if taken.exists() or taken.is_symlink():
                raise KeyFileError(f"{taken} exists, and a key is never overwritten; choose another folder or name")
    made = []
    for one, file in zip(names, files, strict=True):
        key = new_key()
        write_key(key, file)
        made.append({"name": one, "public_key": public_bytes(key).hex(), "file": str(file)})
    if as_json:
        print_json({"keys": made})
        return
    for member in made:
        print(f"{member['name']}: public key {member['public_key']}, private key in {member['file']}")
