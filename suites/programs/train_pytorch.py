"""Train a small network on MNIST with PyTorch. It runs by itself, too: python train_pytorch.py --epochs 3."""

import argparse
import os

from harness.datasets import load
from harness.domain.setting import Dataset
from harness.progress import report

try:
    import torch
except ImportError as error:
    raise SystemExit(f"this program needs PyTorch: pip install torch ({error})") from None

parser = argparse.ArgumentParser()
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--epochs", type=int, default=3)
parser.add_argument("--batch-size", type=int, default=32)
parser.add_argument("--learning-rate", type=float, default=0.1)
options = parser.parse_args()

torch.set_num_threads(len(os.sched_getaffinity(0)))  # the share that the harness has given this trial
torch.manual_seed(options.seed)
dataset = report.trial().get("setting", {}).get("dataset") or "mnist5k"
arrays = load(Dataset.of(dataset), {})
x_train, x_val = (torch.from_numpy(x).flatten(1) for x in (arrays.x_train, arrays.x_val))
y_train, y_val = (torch.from_numpy(y).long() for y in (arrays.y_train, arrays.y_val))
model = torch.nn.Sequential(
    torch.nn.Linear(x_train.shape[1], 128), torch.nn.ReLU(), torch.nn.Linear(128, arrays.classes)
)
optimizer = torch.optim.SGD(model.parameters(), lr=options.learning_rate)
loss_of = torch.nn.functional.cross_entropy
report.ready()

for _ in range(options.epochs):
    total = 0.0
    for rows in torch.randperm(len(x_train)).split(options.batch_size):
        optimizer.zero_grad()
        loss = loss_of(model(x_train[rows]), y_train[rows])
        loss.backward()
        optimizer.step()
        total += loss.item() * len(rows)
    report.evaluating()
    with torch.no_grad():
        scores = model(x_val)
        val_loss, val_accuracy = loss_of(scores, y_val), (scores.argmax(1) == y_val).float().mean()
    report(
        samples=len(x_train),
        steps=-(-len(x_train) // options.batch_size),
        loss=total / len(x_train),
        val_loss=val_loss,
        val_accuracy=val_accuracy,
    )
