"""On the path of an environment whose torchvision does not fit PyTorch: declares the two operators it lacks."""

import sys


class _Declare:
    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            import torch

            sys.meta_path.remove(self)
            self.library = torch.library.Library("torchvision", "FRAGMENT")
            for operator in ("nms", "qnms"):
                self.library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


KEPT = _Declare()
sys.meta_path.insert(0, KEPT)
