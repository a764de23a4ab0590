"""One block as a run starts, one bar over its images, and at the end what was written and what comes next."""

from __future__ import annotations

import logging
import os

import pytest
import torch
from ignite.engine import Events
from monai.engines import SupervisedEvaluator
from torch.utils.data import DataLoader

from common.diffusion.schedules import NoiseSchedule
from common.handlers.run_report import RunReport, bundle_command, written
from common.inferers.sampler import DiffusionSampler
from common.inferers.tiling import SliceSampler
from common.utils import progress


class Network(torch.nn.Module):
    def forward(self, x, timesteps):
        return x[:, :1]


def evaluator(report, inferer, shape=(1, 8, 8), cases=3):
    data = [{"image": torch.full(shape, float(case))} for case in range(cases)]
    return SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(data, batch_size=2),
        network=Network(),
        prepare_batch=lambda batch, *args, **kwargs: (batch["image"], batch["image"]),
        inferer=inferer,
        val_handlers=[report],
        decollate=False,
    )


def sampler(**options):
    return DiffusionSampler(NoiseSchedule("cosine", 10), num_inference_steps=4, **options)


def test_a_run_is_told_in_a_block_a_bar_and_an_end(tmp_path, caplog, capsys):
    about = {"weights": "models/model.pt", "steps": 4, "seed": None, "precision": "fp32"}
    report = RunReport(tmp_path, about, then="look at it", noun="volume")
    engine = evaluator(report, sampler())
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: (tmp_path / "a.png").touch())
    with caplog.at_level(logging.INFO):
        engine.run()
    assert [record.getMessage() for record in caplog.records if record.name.endswith("run_report")] == [
        "3 volumes, on cpu in fp32.",
        "With weights model.pt, steps 4.",
        f"Results go to {tmp_path}.",
        f"Done in 0 s. Wrote to {tmp_path}: a.png.",
        "Next: look at it",
    ]
    shown = capsys.readouterr().err
    assert "Volume 3 of 3" in shown
    assert "Sampling" not in shown
    assert progress._open == []


@pytest.mark.parametrize(("count", "shape"), [(1, (1, 8, 8)), (2, (1, 8, 8)), (1, (1, 8, 8, 5))])
def test_the_bar_moves_with_every_step_and_ends_full(tmp_path, count, shape):
    report, seen = RunReport(tmp_path), []

    class Watched(Network):
        def forward(self, x, timesteps):
            seen.append(report._bar.done)
            return super().forward(x, timesteps)

    engine = evaluator(report, SliceSampler(sampler(num_samples=count), batch_size=10), shape)
    engine.network = Watched()
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda: seen.append(report._bar.done))
    engine.run()
    steps = 4 * count
    assert seen[: steps + 1] == pytest.approx([2 * step / steps for step in range(steps + 1)])
    assert seen[-1] == 3


def test_slices_in_parts_move_the_bar_by_their_share(tmp_path):
    report, seen = RunReport(tmp_path), []
    engine = evaluator(report, SliceSampler(sampler(), batch_size=4), (1, 8, 8, 6), cases=1)
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda: None)
    before = progress.ImagesBar.advance
    progress.ImagesBar.advance = lambda bar, share: (before(bar, share), seen.append(bar.done))
    try:
        engine.run()
    finally:
        progress.ImagesBar.advance = before
    assert seen[3] == pytest.approx(4 / 6)
    assert seen[-1] == pytest.approx(1)


def test_an_error_closes_the_bar_and_goes_on(tmp_path):
    def broken(inputs, network):
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        evaluator(RunReport(tmp_path), broken).run()
    assert progress._open == []


def test_many_files_are_counted_and_old_ones_are_not_told(tmp_path):
    for number in range(9):
        for ending in (".nii.gz", ".json"):
            (tmp_path / f"case_{number}{ending}").touch()
    (tmp_path / "previews").mkdir()
    said = written(tmp_path, 0)
    assert said == f"Wrote to {tmp_path}: 9 .json, 9 .nii.gz, previews/ files, such as case_0.nii.gz."
    for number in range(9):
        (tmp_path / "dicom" / f"case_{number}").mkdir(parents=True)
        (tmp_path / f"case_{number}").mkdir()
    said = written(tmp_path, 0)
    assert said == f"Wrote to {tmp_path}: 11 folders, 9 .json, 9 .nii.gz files, such as case_0.nii.gz."
    assert written(tmp_path / "dicom", 0) == f"Wrote to {tmp_path / 'dicom'}: 9 folders, such as case_0/."
    assert written(tmp_path, 1e12) == "Nothing was written."
    inside = tmp_path / "study" / "a.png"
    inside.parent.mkdir()
    inside.touch()
    for path in (tmp_path, *tmp_path.rglob("*")):
        os.utime(path, (1e6, 1e6))
    os.utime(inside, (2e6, 2e6))  # written anew, which its folder does not show
    assert written(tmp_path, 2e6) == f"Wrote to {tmp_path}: study/."


def test_commands_are_those_of_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = bundle_command(tmp_path / "b", ["train.json", "resume.json"], output_dir="my runs")
    assert command == (
        "python -m monai.bundle run --config_file \"['b/configs/train.json','b/configs/resume.json']\" "
        "--output_dir 'my runs'"
    )
    monkeypatch.chdir("/")
    assert f"--config_file {tmp_path.as_posix().lstrip('/')}/b/configs/a.json" in bundle_command(
        tmp_path / "b", ["a.json"]
    )


def test_a_suggested_command_keeps_the_overlays_of_the_running_one(monkeypatch):
    own = ["b/configs/inference.json", "b/configs/strict.json", "mine.json"]
    monkeypatch.setattr("common.handlers.run_report.given_configs", lambda: own)
    names = ["inference.json", "evaluate.json"]
    expected = "\"['b/configs/inference.json','b/configs/evaluate.json','b/configs/strict.json','mine.json']\""
    assert expected in bundle_command("b", names, overlays=True)
    assert "strict" not in bundle_command("b", names)


def test_a_suggested_command_repeats_the_arguments_of_the_running_one(monkeypatch):
    own = {"seed": 3, "labels": {"liver": 1}}
    monkeypatch.setattr("common.handlers.run_report.given_arguments", lambda: own)
    command = bundle_command("b", ["a.json"], repeat=True, seed=None, report=True)
    assert command.endswith("b/configs/a.json --seed 3 --labels \"{'liver': 1}\" --report True")
    assert "--seed" not in bundle_command("b", ["a.json"], report=True)
