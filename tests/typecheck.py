"""The checker that pytest puts on every annotated function of deepforward."""

import random

_getrandbits, random.getrandbits = random.getrandbits, random.Random(0).getrandbits
try:
    # beartype draws the item of a container that it checks. It binds its generator here: one of its own, because a check
    # that moves Python's global generator would change the runs whose bits the tests compare.
    from beartype import BeartypeConf, beartype
    from beartype._check.code import codemain  # noqa: F401  (binds it)
finally:
    random.getrandbits = _getrandbits

#: As mypy does, take an int where a float is expected (PEP 484's numeric tower).
check = beartype(conf=BeartypeConf(is_pep484_tower=True))
