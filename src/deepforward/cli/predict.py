"""`deepforward predict`: what a trained model says of images that are not in its data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deepforward.errors import InvalidOption


def command(
    run: Annotated[Path, typer.Argument(help="Folder of a run on images.")],
    files: Annotated[list[Path], typer.Argument(help="Image files: PNG, JPEG and the like.")],
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder for pictures; that of each file if left out.")] = None,
) -> None:
    """Tell the class of each image; or write the clean page, the mask or the image that the model makes of it.

    Pictures are named after the file: page.png becomes page.clean.png, page.mask.png or page.output.png. None is overwritten.
    """
    from deepforward.cli import show
    from deepforward.engine import Run, prediction

    parts = Run.open(run).parts()
    prediction.check_predicts(parts)
    draws = parts.data.task in ("segmentation", "image-regression")
    if out is not None and (out.is_file() or not draws):
        given = f"--out {out}, which is a file" if draws else "--out, but a run on these data writes no pictures"
        raise InvalidOption(f"got {given}; {'give a folder' if draws else 'leave it out'}")
    paths = [prediction.output_path(parts, file, out) for file in files] if draws else files
    if len(set(paths)) < len(paths):
        raise InvalidOption("got two files of one name; give them in two commands, each with its own --out")
    found = []
    for file, path in zip(files, paths, strict=True):
        predicted = prediction.predict(parts, prediction.read_image(parts, file))
        if draws:
            prediction.write_picture(path, predicted, parts.data)
            typer.echo(path)
        else:
            found.append((file, predicted))
    if found:
        show.predictions(found, parts.data.classes)
