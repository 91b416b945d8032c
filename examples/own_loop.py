"""A Probe in a training loop that is already there: the marked lines are all that is added."""

import torch
from sklearn.datasets import load_digits
from torch import nn

import deepforward  # 1

torch.manual_seed(0)
images, labels = (torch.from_numpy(array) for array in load_digits(return_X_y=True))
images = images.float() / 16
hidden = [layer for _ in range(20) for layer in (nn.Linear(64, 64), nn.Tanh())]
model = nn.Sequential(*hidden, nn.Linear(64, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

with deepforward.Probe(model, optimizer=optimizer) as probe:  # 2
    for _ in range(100):
        batch = torch.randint(len(images), (64,))
        loss = nn.functional.cross_entropy(model(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

print(deepforward.diagnose(probe))  # 3
