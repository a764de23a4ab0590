"""
A bundle as a MONAI Deploy application: a folder of DICOM in, a folder of DICOM out.

BUNDLE_PATH=bundles/med_ddpm_3d python docs/examples/deploy/app.py --input study --output out
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.deploy.conditions import CountCondition
from monai.deploy.core import AppContext, Application, IOType, Operator, OperatorSpec
from monai.deploy.operators.monai_bundle_inference_operator import IOMapping, MonaiBundleInferenceOperator

PACKED = next(Path(__file__).parent.glob("bundle/*"), Path(__file__).parent / "bundle")
BUNDLE_PATH = Path(os.environ.get("BUNDLE_PATH", PACKED)).resolve()
SETTINGS: dict[str, dict[str, Any]] = {"med_ddpm_3d": {"output_format": "dicom"}, "med_cdiff_xray_denoise": {}}
"""What differs from the bundles' defaults."""


class FilesOperator(Operator):
    """Emit one file after the other; give it a ``CountCondition`` of their number, without which it never ends."""

    def __init__(self, fragment: Application, *args: Any, files: list[str], **kwargs: Any) -> None:
        self.files = iter(files)
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """One output, "image"."""
        spec.output("image")

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        """Emit the next path."""
        op_output.emit(next(self.files), "image")


class FloatBundleOperator(MonaiBundleInferenceOperator):
    """
    The SDK's operator for bundles, which reads by the bundle's own loader and passes results on as they are.

    The SDK's reader and its cast to 8 bits would lose the place and the scale of an image. The network is the one that
    ``app_context.models`` holds.

    Args:
        parser: of the bundle's inference config.
    """

    def __init__(self, *args: Any, parser: ConfigParser, **kwargs: Any) -> None:
        self._of_bundle = parser
        super().__init__(*args, **kwargs)
        self._init_config(self._bundle_config_names.config_names)
        self._init_completed = True

    def _init_config(self, config_names: list[str]) -> None:
        super()._init_config(config_names)
        self._parser = self._of_bundle
        self._inferer = self._parser.get_parsed_content("inferer")
        self._load = next(t for t in self._parser.get_parsed_content("preprocessing").transforms if _is(t, "Load"))
        self._preproc = _without(self._parser.get_parsed_content("preprocessing"), "Load")
        self._postproc = _without(self._parser.get_parsed_content("postprocessing"), "Save")

    def _receive_input(self, name: str, op_input: Any, context: Any) -> tuple[MetaTensor, dict[str, Any]]:
        image = self._load({name: op_input.receive(name)})[name]
        return image, image.meta

    def post_process(self, data: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Returns the case with all that the bundle's postprocessing makes of it."""
        self._case = super().post_process(data, *args, **kwargs)
        return self._case

    def _send_output(self, value: Any, name: str, metadata: dict[str, Any], op_output: Any, context: Any) -> None:
        op_output.emit(MappingProxyType(self._case), name)  # of a dict, holoscan would pass on bare tensors


class WriteOperator(Operator):
    """Write a result by the bundle's own transforms: with its mark, its record and its preview."""

    def __init__(self, fragment: Application, *args: Any, parser: ConfigParser, **kwargs: Any) -> None:
        self.parser = parser
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """One input, "pred"."""
        spec.input("pred")

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        """Write the case to ``output_dir``."""
        case = dict(op_input.receive("pred"))
        for transform in self.parser.get_parsed_content("postprocessing").transforms:
            if _is(transform, "Save"):
                case = transform(case)


class BundleApp(Application):
    """Files, bundle, writer; the bundle's config knows all that is between the folders."""

    def compose(self) -> None:
        """Connect the operators."""
        context: AppContext = Application.init_app_context(self.argv)
        parser = opened(BUNDLE_PATH, str(context.input_path), str(context.output_path))
        for step in ("provenance", "check", "checkpointloader"):  # refuse what cannot be run, before any work
            parser.get_parsed_content(step)
        # the SDK would look for TorchScript, or load models/model.pt whatever "weights" and "runtime" say
        context.models = {"": parser.get_parsed_content("running_network").eval()}
        files = parser.get_parsed_content("masks" if "masks" in parser else "images")
        source = FilesOperator(self, CountCondition(self, len(files)), files=files, name="files")
        maps = [[IOMapping(key, torch.Tensor, IOType.IN_MEMORY)] for key in ("image", "pred")]
        bundle = FloatBundleOperator(
            self,
            app_context=context,
            bundle_path=BUNDLE_PATH,
            input_mapping=maps[0],
            output_mapping=maps[1],
            parser=parser,
            name="bundle",
        )
        self.add_flow(source, bundle, {("image", "image")})
        self.add_flow(bundle, WriteOperator(self, parser=parser, name="writer"), {("pred", "pred")})


def opened(root: Path, dataset_dir: str, output_dir: str) -> ConfigParser:
    """The bundle's inference config, its code importable, for these folders."""
    if not (root / "configs" / "inference.json").is_file():
        raise FileNotFoundError(f"{root} is no bundle: it has no configs/inference.json (set BUNDLE_PATH).")
    if root.name not in SETTINGS:
        raise ValueError(f"{root.name}: one of {sorted(SETTINGS)} was expected.")
    sys.path.insert(0, str(root))
    parser = ConfigParser(ConfigParser.load_config_file(root / "configs" / "inference.json"))
    folders = {"bundle_root": str(root), "dataset_dir": dataset_dir, "output_dir": output_dir}
    parser.update({**folders, **SETTINGS[root.name]})
    return parser


def _is(transform: Any, kind: str) -> bool:
    return type(transform).__name__.startswith(kind)


def _without(compose: Any, kind: str) -> Any:
    """A copy of ``compose`` without the transforms of a kind."""
    return type(compose)([transform for transform in compose.transforms if not _is(transform, kind)])


if __name__ == "__main__":
    BundleApp().run()
