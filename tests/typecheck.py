"""The checker that pytest puts on every annotated function of deepforward."""

from beartype import BeartypeConf, beartype

#: As mypy does, take an int where a float is expected (PEP 484's numeric tower).
check = beartype(conf=BeartypeConf(is_pep484_tower=True))
