"""From Python: train a network that is too deep to learn, ask why, and have a cure proved.

python examples/cure.py [OUT]
"""

import sys
from pathlib import Path

import deepforward

out = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/cure-example")
recipe = deepforward.Recipe(model="perceptron", model_options={"depth": 20, "width": 32}, data="digits", epochs=3)
cured = deepforward.cure(recipe, out=out, quiet=True)

print(cured)
if cured.run is not None:
    print(cured.run.report())
