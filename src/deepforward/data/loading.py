"""From a specification to a Dataset."""

from __future__ import annotations

import inspect
from pathlib import Path

from deepforward import catalogue
from deepforward.data.dataset import Dataset
from deepforward.data.spec import arguments, parse
from deepforward.errors import DataUnavailable, DeepforwardError, InvalidOption


def load(spec: str) -> Dataset:
    """Load the data source that `spec` names: `family[:path][?key=value&...]`.

    Args:
        spec: For example `digits`, `rings?noise=0.05`, `folder:photos/pets?size=64`, `table:wine.csv?target=quality`. The
            families and their options stand on the cards: `deepforward list sources`.

    Raises:
        UnknownName: No card has that family, or the family no such option; the message offers neighbours.
        InvalidOption: An option is missing or has a value it cannot have, or a path is missing or out of place.
        DataUnavailable: The data is not where the source looks for it.
        CorruptData: A file is cut short or does not decode.
        InvalidData: The data was read but cannot be used.
        MissingExtra: Reading it takes an optional dependency.
    """
    family, path, options = parse(spec)
    card = catalogue.card("sources", family)
    source = card.load()
    takes_path = "path" in inspect.signature(source).parameters
    if takes_path and not path:
        raise InvalidOption(f"{family}: got no path, expected {family}:PATH")
    if path and not takes_path:
        raise InvalidOption(f"{family}: got the path '{path}', expected none; options follow a question mark")
    places = [Path(path).expanduser()] if path else []
    try:
        train, test, classes = source(*places, **arguments(family, source, options))
    except DeepforwardError:
        raise
    except OSError as error:
        raise DataUnavailable(f"{error.filename or spec}: cannot be read ({error.strerror}); check the path") from None
    return Dataset(
        name=spec,
        train=train,
        test=test,
        classes=classes,
        licence=card.details.get("licence", ""),
        citation=card.details.get("citation", ""),
    )
