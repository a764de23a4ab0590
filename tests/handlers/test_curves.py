"""The curves of a training: a row an epoch, also where it was resumed, and a picture of them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedTrainer
from PIL import Image
from torch.utils.data import DataLoader

from common.handlers.curves import Curves, HeldOutLoss, curves_figure, read_rows


class Board(dict):
    def add_scalar(self, name, value, epoch):
        self[name, epoch] = value


def trainer(rate=0.5):
    """A trainer whose loss is the batch plus the epoch."""
    engine = Engine(lambda engine, batch: [{"loss": torch.tensor(batch + engine.state.epoch)}])
    engine.optimizer = SimpleNamespace(param_groups=[{"lr": rate}])
    return engine


def run(folder, epochs, resumed_after=0, **options):
    engine = trainer()
    score = SimpleNamespace(state=SimpleNamespace(epoch=0, metrics={}))

    @engine.on(Events.EPOCH_COMPLETED(every=2))
    def validate(engine):
        score.state.epoch, score.state.metrics = engine.state.epoch, {"mean_dice": engine.state.epoch / 10}

    @engine.on(Events.STARTED)
    def restore(engine):
        engine.state.epoch, engine.state.iteration = resumed_after, 2 * resumed_after

    Curves(folder, [score], **options).attach(engine)
    engine.run([0.0, 2.0], max_epochs=epochs)


def test_each_epoch_has_a_row_a_picture_and_points_in_tensorboard(tmp_path):
    board = Board()
    run(tmp_path, 4, writer=board)
    rows = read_rows(tmp_path / "progress.csv")
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert [row["train_loss"] for row in rows] == [2, 3, 4, 5]
    assert [row.get("mean_dice") for row in rows] == [None, 0.2, None, 0.4]
    assert board["epoch/train_loss", 3] == 4
    assert board["epoch/learning_rate", 1] == 0.5
    with Image.open(tmp_path / "progress.png") as picture:
        assert np.asarray(picture.convert("RGB")).std() > 5


def test_a_resumed_run_goes_on_and_a_new_one_begins_anew(tmp_path):
    run(tmp_path, 3)
    run(tmp_path, 5, resumed_after=2)
    assert [row["epoch"] for row in read_rows(tmp_path / "progress.csv")] == [1, 2, 3, 4, 5]
    run(tmp_path, 2)
    assert [row["epoch"] for row in read_rows(tmp_path / "progress.csv")] == [1, 2]


def test_the_figure_has_a_part_for_losses_scores_and_the_rate():
    row = {"epoch": 1.0, "train_loss": 1.0, "held_out_loss": 2.0, "learning_rate": 0.1}
    assert len(curves_figure([row], 3).axes) == 2
    axes = curves_figure([row, {**row, "epoch": 2.0, "accuracy": 0.7}], 3).axes
    assert [[line.get_label() for line in ax.get_lines()] for ax in axes] == [
        ["train loss", "held out loss"],
        ["accuracy"],
        ["learning rate"],
    ]
    assert list(axes[0].get_lines()[1].get_ydata()) == [2, 2]


def trained(folder, held_out):
    """The rows of a tiny training whose inputs have noise, its network, and the next random number after it."""
    torch.manual_seed(3)
    network, data = torch.nn.Linear(1, 1), [{"image": torch.ones(1), "label": torch.zeros(1)}] * 4

    def noisy(batch, device, non_blocking, **kwargs):
        return batch["image"] + torch.randn_like(batch["image"]), batch["label"]

    engine = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=2,
        train_data_loader=DataLoader(data, batch_size=2, generator=torch.Generator()),
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), 0.1),
        loss_function=torch.nn.MSELoss(),
        prepare_batch=noisy,
    )
    if held_out:
        HeldOutLoss(DataLoader(data, batch_size=3, generator=torch.Generator()), network, interval=2).attach(engine)
    Curves(folder).attach(engine)
    engine.run()
    return read_rows(folder / "progress.csv"), network, float(torch.rand(()))


def test_the_held_out_loss_is_the_trainers_own_and_leaves_its_random_numbers(tmp_path):
    without, _, number = trained(tmp_path, held_out=False)
    rows, network, same = trained(tmp_path, held_out=True)
    assert number == same
    assert [row["train_loss"] for row in rows] == [row["train_loss"] for row in without]
    assert ["held_out_loss" in row for row in rows] == [False, True]
    torch.manual_seed(0)
    batches = [network(torch.ones(n, 1) + torch.randn(n, 1)) for n in (3, 1)]
    assert rows[1]["held_out_loss"] == pytest.approx(np.mean([float((x**2).mean()) for x in batches]), rel=1e-5)
