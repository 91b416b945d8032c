"""The layers of the code: a package imports only from strictly lower tiers, and nothing is called after its mechanism."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import deepforward

ROOT = Path(deepforward.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))

TIERS = (
    {"errors"},
    {"catalogue", "files"},
    {"theory"},
    {"shallow", "layers", "metrics", "data", "report"},
    {"instruments"},
    {"models", "objectives"},
    {"engine"},
    {"clinic"},
    {"lecture", "estimators"},
    {"cli"},
)
TIER = {package: height for height, tier in enumerate(TIERS) for package in tier}


def package_of(module: str) -> str:
    """`deepforward.engine.fit` -> `engine`; the root itself -> ``."""
    return module.partition(".")[2].partition(".")[0]


def imports(tree: ast.AST, module: Path) -> Iterator[str]:
    """Absolute names of all modules imported anywhere in a file, `if TYPE_CHECKING` included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def violations(name: str, tree: ast.AST, module: Path) -> list[str]:
    own = package_of(name)
    found = []
    for imported in imports(tree, module):
        other = package_of(imported)
        if not imported.startswith("deepforward.") or other == own or other.startswith("__"):
            continue
        if own in TIER and TIER[other] >= TIER[own]:
            found.append(f"{name} (tier {TIER[own]}) imports {imported} (tier {TIER[other]})")
    return found


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_come_from_a_strictly_lower_tier(module: Path) -> None:
    name = ".".join(["deepforward", *module.relative_to(ROOT).with_suffix("").parts])
    assert violations(name, ast.parse(module.read_text(encoding="utf-8")), module) == []


def test_the_check_sees_an_import_upwards_and_sideways() -> None:
    tree = ast.parse("def f():\n    from deepforward.clinic import cure\n    import deepforward.models.residual")
    assert len(violations("deepforward.objectives.supervised", tree, ROOT)) == 2


def test_every_package_has_a_tier() -> None:
    names = {path.stem for path in ROOT.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert names - {"__init__"} <= set(TIER)


def test_modules_are_named_after_their_subject() -> None:
    words = {word for module in MODULES for word in module.relative_to(ROOT).with_suffix("").parts}
    assert words.isdisjoint({"utils", "util", "helpers", "helper", "common", "base", "misc", "core"})


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_unpickled_or_evaluated(module: Path) -> None:
    tree = ast.parse(module.read_text(encoding="utf-8"))
    assert not {"pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"} & {
        name.split(".")[0] for name in imports(tree, module)
    }
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        called = ast.unparse(call.func)
        assert called not in {"eval", "exec", "torch.load", "torch.save"}, f"{module}:{call.lineno}"
        if called.endswith("np.load"):
            allow = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}.get("allow_pickle")
            assert allow == "False", f"{module}:{call.lineno}: np.load without allow_pickle=False"
