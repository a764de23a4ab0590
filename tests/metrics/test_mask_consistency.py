from __future__ import annotations

import pytest
import torch
from torch import nn

from common.features.segmenter import Segmenter, WholeVolumeInferer, build_segmenter
from common.metrics.consistency import MaskDice, mask_dice, read_masks


class ReadsIntensity(nn.Module):
    """Background below 0.5, label 1 about 1, label 2 about 2: perfect on images that are the label map."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([-((x - value) ** 2) for value in (0, 1, 2)], dim=1)


def label_maps() -> torch.Tensor:
    maps = torch.zeros(2, 1, 7, 8, 9)
    maps[:, :, 2:5, 1:4, 2:7] = 1
    maps[:, :, 2:5, 4:6, 2:7] = 2
    return maps


def channels(maps: torch.Tensor) -> torch.Tensor:
    return torch.cat([(maps == v).float() * 2 - 1 for v in (1, 2)], dim=1)


def test_perfect_segmenter_reads_one():
    maps = label_maps()
    assert mask_dice(maps, channels(maps), ReadsIntensity(), divisor=4).tolist() == [[1, 1], [1, 1]]


def test_poor_image_reads_as_its_overlap():
    maps = label_maps()
    image = maps.clone()
    image[1, :, 2:5, 1:4, 2:7] = 0  # label 1 is not drawn
    image[0, :, 2:5, 4:6, 4:7] = 0  # 3/5 of label 2 is not drawn: Dice 2*2/(2+5)
    found = mask_dice(image, channels(maps), ReadsIntensity())
    assert found[0].tolist() == pytest.approx([1, 4 / 7])
    assert found[1].tolist() == pytest.approx([0, 1])


def test_a_segmenter_of_other_labels_is_refused(tmp_path):
    torch.save(build_segmenter().state_dict(), tmp_path / "s.pt")
    segmenter = Segmenter(build_segmenter(), tmp_path / "s.pt", labels=["anterior", "posterior"])
    assert MaskDice(segmenter, {"anterior": 1, "posterior": 2}).segmenter.describe()["labels"] == segmenter.labels
    for labels in (["liver", "lesion"], ["posterior", "anterior"]):
        with pytest.raises(ValueError, match=r"s.pt: the segmenter was trained to read \['anterior', 'posterior'\]"):
            MaskDice(segmenter, labels)


def test_metric_averages_over_labels_that_are_there_then_cases():
    maps = label_maps()
    masks = channels(maps)
    masks[1, 1] = -1  # a healthy case: no label 2
    drawn = maps.clone()
    drawn[1][maps[1] == 2] = 0
    drawn[0, :, 2:5, 4:6, 4:7] = 0
    segmenter = Segmenter.__new__(Segmenter)
    segmenter.network, segmenter.divisor, segmenter.device = ReadsIntensity(), 1, torch.device("cpu")
    metric = MaskDice(segmenter, {"part": 1, "other": 2})
    metric(list(drawn), list(masks))
    assert metric.per_case().tolist() == pytest.approx([(1 + 4 / 7) / 2, 1])
    assert float(metric.aggregate()) == pytest.approx(((1 + 4 / 7) / 2 + 1) / 2)


def test_reading_keeps_odd_sizes():
    image = torch.rand(1, 1, 9, 13, 11)
    assert read_masks(image, build_segmenter(2, channels=(4, 4, 4, 4)), 8).shape == (1, 2, 9, 13, 11)


def test_padding_repeats_edges_and_is_cropped_again():
    seen = []

    def network(x: torch.Tensor) -> torch.Tensor:
        seen.append(x)
        return 2 * x

    image = torch.rand(1, 1, 5, 6, 8)
    assert torch.equal(WholeVolumeInferer(4)(image, network), 2 * image)
    assert seen[0].shape == (1, 1, 8, 8, 8)
    assert set(seen[0].unique().tolist()) <= set(image.unique().tolist())


def test_bad_input(tmp_path):
    maps = label_maps()
    with pytest.raises(ValueError, match="do not fit"):
        mask_dice(maps, channels(maps)[..., :-1], ReadsIntensity())
    with pytest.raises(ValueError, match="reads 2 labels, the masks have 1"):
        mask_dice(maps, channels(maps)[:, :1], ReadsIntensity())
    with pytest.raises(ValueError, match="NaN"):
        mask_dice(maps * float("nan"), channels(maps), ReadsIntensity())
    with pytest.raises(FileNotFoundError, match="train_segmenter"):
        Segmenter(build_segmenter(), tmp_path / "none.pt")
    torch.save(build_segmenter(3).state_dict(), tmp_path / "three.pt")
    with pytest.raises(ValueError, match="does not fit UNet"):
        Segmenter(build_segmenter(2), tmp_path / "three.pt")
