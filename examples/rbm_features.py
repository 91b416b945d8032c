"""Features of a restricted Boltzmann machine before a linear classifier, on digits that stand up to one pixel aside.

The classifier alone must know every place that a stroke may have; the machine has learnt, without labels, which pixels go
together.
"""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline

from deepforward.estimators import RBM


def moved(images: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each image where it stands and a pixel to each of four sides, flattened, and its class."""
    places = [images, *(np.roll(images, shift, axis) for axis in (1, 2) for shift in (-1, 1))]
    return np.concatenate(places).reshape(-1, 64), np.tile(classes, 5)


images, classes = load_digits(return_X_y=True)
images = (images > 7).reshape(-1, 8, 8)
# Split first, move then: no test image is one of training moved aside.
train, test, train_classes, test_classes = train_test_split(images, classes, train_size=400, random_state=0)
X, y = moved(train, train_classes)
X_test, y_test = moved(test, test_classes)

linear = LogisticRegression(C=10, max_iter=1000)
machine = RBM(n_components=100, n_iter=10, learning_rate=0.3, random_state=0)
raw = linear.fit(X, y).score(X_test, y_test)
pipeline = make_pipeline(machine, linear).fit(X, y)
print(f"logistic regression on pixels:   {raw:.1%}")
print(f"on features of the machine:      {pipeline.score(X_test, y_test):.1%}")
print(f"log-likelihood of test digits:   {pipeline[0].score(X_test):.1f} nats")
