"""The page of the rules is what the command writes, and says that every rule finds its illness and nothing else."""

from pathlib import Path

from deepforward import catalogue
from deepforward.clinic import Evidence
from deepforward.clinic.illnesses import HEALTHY, ILLNESSES
from deepforward.clinic.matrix import confusion, page
from tests.clinic.examples import geometric, readings, stuck

PAGE = Path(__file__).parents[2] / "docs" / "clinic.md"
RULES = [card.name for card in catalogue.cards("rules")]


def counts_of(text):
    """The numbers of the page's first table, by row."""
    rows = [line for line in text.splitlines() if line.startswith("|")]
    table = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2 : 2 + len(ILLNESSES) + len(HEALTHY)]]
    names = [row[0].removeprefix("healthy: ").split(" ")[-1] for row in table]
    counts = [dict(zip(RULES, (int(n.replace(".", "0")) for n in row[1:-1]), strict=True)) for row in table]
    return dict(zip(names, counts, strict=True)), {name: int(row[-1]) for name, row in zip(names, table, strict=True)}


def test_the_page_is_written_anew_whenever_rules_or_illnesses_change():
    """All but the counts follows from cards and recipes; the counts are trained, by the contract test too."""
    counts, runs = counts_of(PAGE.read_text(encoding="utf-8"))
    assert set(counts) == {*ILLNESSES, *HEALTHY}
    assert page(counts, runs) == PAGE.read_text(encoding="utf-8")


def test_the_matrix_of_the_page_is_diagonal():
    counts, runs = counts_of(PAGE.read_text(encoding="utf-8"))
    for name, found in counts.items():
        assert found == {rule: runs[name] if rule == name else 0 for rule in RULES}


def test_what_is_explained_away_is_not_counted():
    vanishing = stuck(readings=readings(geometric(-0.4, 20)))
    counts = confusion({"ill": [vanishing, vanishing], "unknown": [Evidence()]})
    assert counts["ill"] == {rule: 2 * (rule == "vanishing") for rule in RULES}
    assert not any(counts["unknown"].values())
