from __future__ import annotations

import pytest
import torch
from ignite.engine import Events
from ignite.handlers import EMAHandler
from monai.engines import SupervisedTrainer
from monai.handlers import LrScheduleHandler
from torch.utils.data import DataLoader

from common.handlers.checkpoints import CheckpointWriter, ResumeTraining, TrainingState, checkpoints, load_newest
from common.handlers.guards import EpochSeeding


class Run:
    """A linear network with dropout, Adam, a falling learning rate, an EMA with warm-up; five iterations an epoch."""

    def __init__(
        self, folder, epochs, resume: bool = False, width: int = 3, cases: int = 10, ema=True, **writer
    ) -> None:
        torch.manual_seed(0)
        data = [{"image": torch.randn(width), "label": torch.randn(1)} for _ in range(cases)]
        loader = DataLoader(data, batch_size=2, shuffle=True)
        self.network = torch.nn.Sequential(torch.nn.Dropout(0.2), torch.nn.Linear(width, 1))
        optimizer = torch.optim.Adam(self.network.parameters(), lr=0.1)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.9**step)
        self.ema = EMAHandler(self.network, momentum=0.1, momentum_warmup=0.5, warmup_iters=12) if ema else None
        seeding = EpochSeeding(0, loader)
        self.state = state = TrainingState(self.network, self.ema, scheduler, seeding)
        handlers = [seeding, LrScheduleHandler(scheduler, print_lr=False, epoch_level=False)]
        handlers += [self.ema] if ema else []
        handlers += [CheckpointWriter(folder, state, **writer)]
        handlers += [ResumeTraining(folder, state)] if resume else []
        self.trainer = SupervisedTrainer(
            torch.device("cpu"), epochs, loader, self.network, optimizer, torch.nn.MSELoss(), train_handlers=handlers
        )

    def __call__(self) -> Run:
        self.trainer.run()
        return self

    def weights(self) -> list[torch.Tensor]:
        return [*self.network.state_dict().values(), *self.state.model.state_dict().values()]


def equal(a: Run, b: Run) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.weights(), b.weights(), strict=True))


def test_a_resumed_run_ends_with_the_same_weights(tmp_path):
    whole = Run(tmp_path / "whole", 4)()
    Run(tmp_path / "parts", 2)()
    resumed = Run(tmp_path / "parts", 4, resume=True)()
    assert resumed.trainer.state.iteration == 20
    assert equal(whole, resumed)
    assert not equal(whole, Run(tmp_path / "other", 3)())


def test_files_are_plain_and_the_oldest_go(tmp_path):
    run = Run(tmp_path, 7, interval=2, keep=2)()
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint_epoch=7.pt", "checkpoint_epoch=6.pt"]
    assert sorted(path.name for path in tmp_path.iterdir())[-1] == "model.pt"
    assert len(list(tmp_path.iterdir())) == 3
    model = torch.load(tmp_path / "model.pt", weights_only=True)
    assert all(torch.equal(value, model[name]) for name, value in run.ema.ema_model.state_dict().items())
    assert (tmp_path / "model.pt").stat().st_mode & 0o444 == 0o444


@pytest.mark.parametrize("left", [None, b"weights of an earlier epoch"])
def test_resuming_a_finished_run_writes_the_model_that_a_kill_prevented(tmp_path, left):
    run = Run(tmp_path, 2)()
    expected = (tmp_path / "model.pt").read_bytes()
    (tmp_path / "model.pt").unlink()
    if left is not None:
        (tmp_path / "model.pt").write_bytes(left)
    resumed = Run(tmp_path, 2, resume=True)()
    assert equal(run, resumed)
    assert (tmp_path / "model.pt").read_bytes() == expected


def test_a_run_without_ema_resumes_and_an_exception_writes_nothing(tmp_path):
    whole = Run(tmp_path / "whole", 4, ema=False, model_name=None)()
    stopped = Run(tmp_path / "parts", 4, ema=False, model_name=None)

    def stop(engine):
        raise KeyboardInterrupt

    stopped.trainer.add_event_handler(Events.ITERATION_COMPLETED(once=13), stop)
    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == [f"checkpoint_epoch={n}.pt" for n in (1, 2)]
    assert equal(whole, Run(tmp_path / "parts", 4, resume=True, ema=False, model_name=None)())


def test_epochs_are_ordered_by_number(tmp_path):
    for epoch in (9, 10, 2):
        (tmp_path / f"checkpoint_epoch={epoch}.pt").touch()
    (tmp_path / "checkpoint_epoch=best.pt").touch()
    assert [path.stem for path in checkpoints(tmp_path)] == [f"checkpoint_epoch={epoch}" for epoch in (10, 9, 2)]


@pytest.mark.parametrize("damage", ["cut", "empty", "garbage", "changed"])
def test_a_damaged_checkpoint_is_passed_over(tmp_path, damage):
    whole = Run(tmp_path / "whole", 4)()
    Run(tmp_path / "parts", 3)()
    newest = checkpoints(tmp_path / "parts")[0]
    content = newest.read_bytes()
    tensor = content.index(b"/data/0") + 200  # torch.load reads what stands there without a look at the checksum
    changed = content[:tensor] + bytes(byte ^ 1 for byte in content[tensor : tensor + 4]) + content[tensor + 4 :]
    damaged = {"cut": content[: len(content) // 2], "empty": b"", "garbage": b"no weights", "changed": changed}
    newest.write_bytes(damaged[damage])
    assert load_newest(tmp_path / "parts")[0] == checkpoints(tmp_path / "parts")[1]
    assert equal(whole, Run(tmp_path / "parts", 4, resume=True)())


def test_nothing_readable_is_an_error_and_nothing_there_is_the_beginning(tmp_path):
    assert equal(Run(tmp_path / "a", 2)(), Run(tmp_path / "b", 2, resume=True)())
    (tmp_path / "checkpoint_epoch=1.pt").write_bytes(b"no weights")
    with pytest.raises(RuntimeError, match="None of the checkpoints"):
        load_newest(tmp_path)


def test_a_new_run_does_not_write_over_an_earlier_one(tmp_path):
    Run(tmp_path, 1)()
    with pytest.raises(FileExistsError, match=r"resume\.json"):
        Run(tmp_path, 2)()


def test_other_data_another_network_and_too_few_epochs_are_refused(tmp_path):
    Run(tmp_path, 3)()
    with pytest.raises(ValueError, match="5 iterations, those of this run 6"):
        Run(tmp_path, 4, resume=True, cases=12)()
    with pytest.raises((RuntimeError, ValueError), match=r"size|shape"):
        Run(tmp_path, 4, resume=True, width=4)()
    with pytest.raises(ValueError, match="epoch 3, max_epochs is 2"):
        Run(tmp_path, 2, resume=True)()


def test_weights_alone_are_no_training_state(tmp_path):
    run = Run(tmp_path, 1)()
    network = {name: torch.load(tmp_path / "model.pt", weights_only=True) for name in ("network", "ema")}
    with pytest.raises(ValueError, match=r"has no \['optimizer'"):
        run.state.restore(run.trainer, network)


def test_the_same_weights_give_the_same_file(tmp_path, monkeypatch):
    Run(tmp_path / "one", 1)()
    monkeypatch.setattr("os.getpid", lambda: 12345678)
    Run(tmp_path / "other", 1)()
    assert (tmp_path / "one" / "model.pt").read_bytes() == (tmp_path / "other" / "model.pt").read_bytes()


def test_a_killed_write_leaves_nothing_for_long(tmp_path):
    tmp_path.joinpath(".0123456789abcdef.checkpoint_epoch=1.pt").write_bytes(b"half")
    Run(tmp_path, 1)()
    assert not list(tmp_path.glob(".*"))


def test_a_full_disk_keeps_the_checkpoint_before(tmp_path, monkeypatch):
    Run(tmp_path, 2)()
    before = checkpoints(tmp_path)

    def full(content, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        Run(tmp_path, 3, resume=True)()
    assert checkpoints(tmp_path) == before
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("part", ["network", "ema"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1e30])
def test_weights_that_are_no_numbers_are_not_written(tmp_path, part, value):
    run = Run(tmp_path, 3)
    name = {"network": "1.weight", "ema": "1.bias"}[part]

    def spoil(engine):
        """After the last loss of the epoch, which was finite."""
        run.state.parts[part].state_dict()[name].view(-1)[0] = value

    run.trainer.add_event_handler(Events.ITERATION_COMPLETED(once=10), spoil)
    with pytest.raises(FloatingPointError, match=rf"1 of \d weights in {name} \({part}\) .* after epoch 2"):
        run()
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint_epoch=1.pt"]
    kept = [torch.load(tmp_path / "model.pt", weights_only=True), load_newest(tmp_path)[1]["network"]]
    assert all(bool(torch.isfinite(tensor).all()) for weights in kept for tensor in weights.values())
