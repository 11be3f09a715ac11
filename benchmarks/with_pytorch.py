"""PyTorch: the training loop of its quickstart tutorial, on tensors in memory."""

import torch
from common import PARAMS, THREADS, load, serve, timed
from torch import nn

from digits.core.images import CLASSES, SIDE

torch.set_num_threads(THREADS)
torch.set_num_interop_threads(1)
SETTINGS = PARAMS.model("mlp128")


class Epochs:
    """A model; each call trains it for one more epoch."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        images, labels = load("train", "validation")
        self._images = torch.from_numpy(images).float()
        self._labels = torch.from_numpy(labels).long()
        self._model = nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, 128), nn.ReLU(), nn.Linear(128, CLASSES))
        self._loss = nn.CrossEntropyLoss()
        # The defaults are slower: Adam with one kernel per variable, and the tutorial's DataLoader, image by image.
        self._optimizer = torch.optim.Adam(self._model.parameters(), lr=SETTINGS.optimizer.learning_rate, fused=True)

    def epoch(self) -> dict[str, float]:
        seconds, _ = timed(self._train)
        return {"seconds": seconds, "accuracy": self._accuracy(self._images, self._labels)}

    def _train(self) -> None:
        self._model.train()
        for indices in torch.randperm(len(self._labels)).split(SETTINGS.batch_size):
            self._optimizer.zero_grad()
            loss = self._loss(self._model(self._images[indices]), self._labels[indices])
            loss.backward()
            self._optimizer.step()

    def _accuracy(self, images: torch.Tensor, labels: torch.Tensor) -> float:
        self._model.eval()
        with torch.no_grad():
            return float((self._model(images).argmax(1) == labels).float().mean())

    def test(self) -> float:
        images, labels = load("test")
        return self._accuracy(torch.from_numpy(images).float(), torch.from_numpy(labels))


if __name__ == "__main__":
    epochs = Epochs()
    serve({"epoch": epochs.epoch, "test": epochs.test})
