"""A run remembers: what training writes beside its weights is taken over by every later run, and cannot run code."""

from __future__ import annotations

import json

import pytest
from monai.bundle import ConfigParser, ConfigWorkflow

from common.bundle.record import recall, record_of, settings_of, update_record
from common.data.subjects import subject_rule
from tests.fixtures import BUNDLE

CONFIGS = BUNDLE / "configs"
WIDE = {"channels": [8, 8, 16], "num_head_channels": 8, "norm_num_groups": 4}


def parser_of(*names, **values):
    parser = ConfigParser(ConfigParser.load_config_files([str(CONFIGS / name) for name in names]))
    parser.update({"bundle_root": str(BUNDLE), "device": "cpu", **values})
    return parser


def as_trained(**values):
    """The settings that a training with a network and labels of its own records."""
    changed = {f"network_def#{name}": value for name, value in WIDE.items()}
    given = {"labels": {"liver": 4}, "spacing": [2.0, 2.0, 2.0], "subject_of": "(s[0-9]+)", "dataset_dir": "here"}
    parser = parser_of("train.json", **given, **changed, **values)
    parser["total_steps"] = 50
    return settings_of(parser)


def test_settings_are_plain_data_and_can_be_written(tmp_path):
    settings = as_trained()
    assert settings["labels"] == {"liver": 4}
    assert settings["warmup"] == 5
    assert settings["network_def"]["channels"] == [8, 8, 16]
    assert settings["network_def"]["in_channels"] == 2
    assert "device" not in settings
    assert "split" not in settings, "lists of cases, which a component makes"
    assert "output_dir" not in settings
    update_record(tmp_path / "model.pt", sample="abc")
    update_record(tmp_path / "model.pt", settings=settings)
    assert record_of(tmp_path / "model.pt") == {"sample": "abc", "settings": json.loads(json.dumps(settings))}


def test_inference_takes_over_the_network_and_evaluation_the_split_too(tmp_path):
    update_record(tmp_path / "model.pt", settings=as_trained())
    for names, split in ((["inference.json"], False), (["inference.json", "evaluate.json"], True)):
        parser = parser_of(*names, run_dir=str(tmp_path), spacing=[1.5, 1.5, 1.5])
        recall(parser, ["run_dir", "spacing"])
        assert parser.get_parsed_content("weights") == f"{tmp_path}/model.pt"
        assert parser.get_parsed_content("labels") == {"liver": 4}
        assert parser.get_parsed_content("spacing") == [1.5, 1.5, 1.5]  # it was given
        network = parser.get_parsed_content("network_def")
        assert network.state_dict()["conv_in.conv.weight"].shape[:2] == (8, 16)  # 2 channels, folded by 2 x 2 x 2
        assert (parser.get("dataset_dir") == "here") == split
        assert (parser.get("subject_of") == "(s[0-9]+)") == split


def test_what_is_taken_over_is_told_where_it_differs(caplog):
    caplog.set_level("INFO", "common.bundle.record")
    recall(parser_of("inference.json"), [])
    assert not caplog.messages, "the shipped weights have the labels of study.json"
    recall(parser_of("inference.json", labels={"liver": 4}), [])
    assert [message.split(": ")[-1] for message in caplog.messages] == ["labels."]


def test_a_noise_schedule_is_taken_over_whole(tmp_path, caplog):
    caplog.set_level("INFO", "common.bundle.record")
    linear = {"schedule": "linear", "num_train_timesteps": 100, "beta_start": 0.001}
    trained = {"_target_": "scripts.diffusion.schedules.NoiseSchedule", **linear}
    for given, number in (({"noise_schedule": trained}, 100), ({}, 250)):
        parser = parser_of("train.json", total_steps=50, **given)
        update_record(tmp_path / "model.pt", settings=settings_of(parser))
        for overlays in ((), ("evaluate.json",), ("train.json", "fine_tune.json")):
            later = parser_of(
                *(overlays if "train.json" in overlays else ("inference.json", *overlays)), run_dir=str(tmp_path)
            )
            recall(later, ["run_dir"])
            assert len(later.get_parsed_content("noise_schedule").alpha_bar) == number
            told = [name for message in caplog.messages for name in message.split(": ")[-1].rstrip(".").split(", ")]
            assert ("noise_schedule" in told) == bool(given)
            assert "network_def" not in told, "it is the same"
            caplog.clear()


def test_resuming_takes_over_everything_and_goes_on_in_the_folder(tmp_path):
    update_record(tmp_path / "model.pt", settings=as_trained(batch_size=3, max_epochs=7))
    parser = parser_of("train.json", "resume.json", run_dir=str(tmp_path), max_epochs=9)
    recall(parser, ["run_dir", "max_epochs"])
    assert [parser.get_parsed_content(name) for name in ("output_dir", "batch_size", "max_epochs", "dataset_dir")] == [
        str(tmp_path),
        3,
        9,
        "here",
    ]
    assert settings_of(parser)["network_def"]["channels"] == [8, 8, 16]


def test_the_shipped_weights_say_how_their_subjects_are_told():
    parser = parser_of("inference.json", "evaluate.json")
    recall(parser, [])
    assert parser.get("subject_of") == "decathlon_hippocampus"


@pytest.mark.parametrize(("given", "scale"), [({}, 0.96), ({"noise_scale": 1.0}, 1.0)])
def test_the_few_step_weights_of_super_resolution_say_how_they_are_sampled(given, scale):
    root = BUNDLE.parent / "med_cdiff_mri_superres"
    files = [str(root / "configs" / f"{name}.json") for name in ("inference", "fast")]
    parser = ConfigParser(ConfigParser.load_config_files(files))
    parser.update({"bundle_root": str(root), "device": "cpu", **given})
    recall(parser, given)
    assert parser.get_parsed_content("provenance")["noise_scale"] == scale


def test_a_workflow_takes_it_over_and_keeps_what_its_caller_sets(tmp_path):
    update_record(tmp_path / "model.pt", settings={"labels": {"liver": 4}, "spacing": [2.0, 2.0, 2.0]})
    changed = {"run_dir": str(tmp_path), "labels": {"mine": 1}}
    for overlays, spacing in ((), [2.0, 2.0, 2.0]), (("paper.json",), [1.5, 1.5, 1.5]):
        files = [str(CONFIGS / name) for name in ("inference.json", *overlays)]
        run = ConfigWorkflow(files, workflow_type="inference", logging_file=False, **changed)
        run.initialize()
        assert run.parser.get_parsed_content("labels") == {"mine": 1}
        assert run.parser.get_parsed_content("spacing") == spacing


@pytest.mark.parametrize(
    "settings",
    [
        {"labels": "$__import__('os').system('true')"},
        {"labels": {"a": "@weights"}},
        {"spacing": {"_target_": "os.system", "command": "true"}},
        {"network_def": {"_target_": "os.system", "command": "true"}},
        {"noise_schedule": {"_target_": "scripts.networks.unet.ConditionalDiffusionUNet"}},
        {"noise_schedule": {"_target_": "scripts.diffusion.schedules.NoiseSchedule", "schedule": "$1"}},
        {"network_def": {"_target_": "scripts.networks.unet.ConditionalDiffusionUNet", "channels": ["$1"]}},
        {"network_def": {"_target_": "scripts.networks.unet.ConditionalDiffusionUNet", "_requires_": "x"}},
    ],
)
def test_a_record_with_code_is_refused(tmp_path, settings):
    update_record(tmp_path / "model.pt", settings=settings)
    with pytest.raises(ValueError, match=r"model.json: .*a record of a training run was expected"):
        recall(parser_of("inference.json", run_dir=str(tmp_path)), [])


@pytest.mark.parametrize(
    ("rule", "name", "subject"),
    [
        ("file", "a_1", "a_1"),
        ("decathlon_hippocampus", "hippocampus_007", 4),
        ("(sub-[0-9]+)", "x_sub-12_t1", "sub-12"),
        (lambda name: name[0], "abc", "a"),
    ],
)
def test_subjects_by_rule(rule, name, subject):
    assert subject_rule(rule)(name) == subject


@pytest.mark.parametrize(("rule", "message"), [("decathlon", "one of"), ("(a", "no regular expression")])
def test_a_rule_that_is_none_is_refused(rule, message):
    with pytest.raises(ValueError, match=message):
        subject_rule(rule)


def test_a_name_that_the_rule_does_not_match_is_named():
    with pytest.raises(ValueError, match="'other'"):
        subject_rule("(sub-[0-9]+)")("other")
