"""Two folders of images measured against each other: one pass over the files, features from the cache."""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from tqdm import tqdm

from ..features.features import FeatureNetwork
from ..metrics.groups import groups_in_both
from ..utils.images import release_memory
from .audit import audit_entry, run_audit
from .cache import FeatureCache, Features
from .choice import Options, Plan
from .entries import METRICS
from .folders import ImageFolder, folder_facts, same_files
from .memorisation import AuditResult, AuditSettings
from .results import document, entry_of, per_case_values, ratio_interval, result_of

_KEPT_BYTES = 2**30  # of images that the pixel metrics of whole sets may hold, in all


class _Precomputed:
    """Stands for a feature network in a metric that is called with feature vectors instead of images."""

    def __init__(self, network: FeatureNetwork) -> None:
        self.label = network.label
        self.describe = network.describe

    def __call__(self, features: Tensor) -> Tensor:
        """The features, as they are."""
        return features


class Comparison:
    """
    The metrics of a plan.

    Args:
        plan: folders, metrics and networks.
        options: the same that the plan was made with.
        cache: folder of the feature cache; None for none.
        command: that asked for it, for the record.

    Attributes:
        audit: of memorisation, after ``run``; None without training images.

    >>> import tempfile
    >>> from PIL import Image
    >>> from .choice import plan
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name, grey in (("a", 0), ("b", 51)):
    ...         Image.new("L", (16, 16), grey).save(f"{folder}/{name}.png")
    ...     options = Options(metrics=("mse",))
    ...     round(Comparison(plan(folder, folder, None, options), options).run(folder)["metrics"]["mse"]["value"], 3)
    0.0
    """

    def __init__(
        self, plan: Plan, options: Options, cache: str | Path | None = None, command: str | None = None
    ) -> None:
        self.plan, self.options, self.cache, self.command = plan, options, cache, command
        self.audit: AuditResult | None = None
        self.notices = list(plan.notices)
        self._started = time.monotonic()
        self._features: dict[tuple[int, bool], dict[str, Features]] = {}
        self._values: dict[str, dict[str, list[float]]] = {}
        self._sets: dict[str, dict[str, Any]] = {}
        self._pairs: dict[str, Any] = {}
        self._groups = [plan.groups[side] for side in ("fake", "real")] if plan.groups else None

    def run(self, out: str | Path) -> dict[str, Any]:
        """
        Measure everything; the audit, where there is one, writes its own files.

        Args:
            out: folder of the results.

        Returns:
            The content of metrics.json.
        """
        self._prepare()
        self._pass()
        results: dict[str, Any] = {}
        for name in self.plan.metrics:
            collect = getattr(self, f"_collect_{METRICS[name].kind}")
            results.update({label: {**entry, "metric": name} for label, entry in collect(name, Path(out)).items()})
        notices = self.notices + [f"{k}: {v['warning']}" for k, v in results.items() if "warning" in v]
        content = {"metrics": results, "notices": notices}
        return document(content, self._context(), self.options.seed, self._started, over=self._over())

    def features(self) -> dict[str, tuple[Tensor, Tensor]]:
        """After ``run``: label of each network -> features of the generated and of the real images, one a row."""
        return {
            found["fake"].network.label: (found["fake"].tensor(), found["real"].tensor())
            for (_, equalised), found in self._features.items()
            if not equalised
        }

    def _prepare(self) -> None:
        plan = self.plan
        for name in plan.metrics:
            entry = METRICS[name]
            if entry.kind == "each":
                self._values[name] = {"fake": [], "real": []}
            elif entry.kind == "sets":
                self._sets[name] = self._new_sets(name)
            elif entry.kind == "pairs":
                self._pairs.update(self._new_pairs(name))
            for index, _ in enumerate(plan.networks):
                if entry.kind in ("features", "training"):
                    self._features.setdefault((index, entry.equalised), {})
        for (index, equalised), found in self._features.items():
            network = self._network(index, equalised)
            for side in (
                ("fake", "real", "train") if "memorisation" in plan.metrics and not equalised else ("fake", "real")
            ):
                found[side] = self._new_features(getattr(plan, side), network)
        if any(METRICS[name].kind == "sets" for name in plan.metrics):
            self._kept = {side: self._drawn(getattr(plan, side)) for side in ("fake", "real")}
        same = same_files(plan.fake, plan.real)
        if same:
            self.notices.append(f"{len(same)} files of --fake are byte for byte in --real, such as {same[0]}.")

    def _new_sets(self, name: str) -> dict[str, Any]:
        """One metric of both sets, or one a set."""
        more = {"max_images": self.options.max_images, "seed": self.options.seed}
        entry = METRICS[name]
        return (
            {side: entry.make(**more) for side in ("fake", "real")} if entry.one_set else {"both": entry.make(**more)}
        )

    def _new_pairs(self, name: str) -> dict[str, Any]:
        entry = METRICS[name]
        if entry.maps:
            made = [entry.make(network) for network in self.plan.networks]
            return {metric.label: metric for metric in made}
        source = entry.given.get("weights")
        more = {"weights": getattr(self.options, source), "device": self.options.device} if source else {}
        metric = entry.make(**more)
        return {getattr(metric, "label", name): metric}

    def _network(self, index: int, equalised: bool) -> FeatureNetwork:
        network = self.plan.networks[index]
        return FeatureNetwork(network.name, network.weights, True, network.device) if equalised else network

    def _new_features(self, images: ImageFolder, network: FeatureNetwork) -> Features:
        cache = FeatureCache(self.cache, network, images.describe()) if self.cache is not None else None
        return Features(images, network, cache, self.options.batch_size)

    def _drawn(self, images: ImageFolder) -> set[int]:
        """Images that the pixel metrics of whole sets see: all, or a seeded draw where memory asks for it."""
        most = max(int(np.prod(shape)) for shape in images.shapes) * 4 * 2 * max(1, len(self._sets))
        room = max(2, min(self.options.max_images, _KEPT_BYTES // most))
        if len(images) <= room:
            return set(range(len(images)))
        self.notices.append(
            f"{', '.join(self._sets)}: {room} of {len(images)} images of {images.path.name}, drawn with seed "
            f"{self.options.seed} (memory; --max_images)."
        )
        return {int(v) for v in np.random.default_rng(self.options.seed).choice(len(images), room, replace=False)}

    def _pass(self) -> None:
        """Read every file that a metric still wants, once."""
        plan = self.plan
        for index in tqdm(range(max(len(plan.fake), len(plan.real))), desc="images", unit="image"):
            images = {}
            for side in ("fake", "real"):
                folder: ImageFolder = getattr(plan, side)
                if index < len(folder) and self._wanted(side, index):
                    images[side] = folder[index]
                    self._take(side, index, folder, images[side])
            if self._pairs and len(images) == 2:
                for metric in self._pairs.values():
                    metric(images["fake"][None], images["real"][None])
            for image in list(images.values())[:1]:
                release_memory(image)

    def _wanted(self, side: str, index: int) -> bool:
        if self._pairs or self._values or (self._sets and index in self._kept[side]):
            return True
        return any(index in found[side].missing for found in self._features.values())

    def _take(self, side: str, index: int, folder: ImageFolder, image: Tensor) -> None:
        for found in self._features.values():
            found[side].offer(index, image)
        for name, values in self._values.items():
            given = (folder.spacings[index],) if METRICS[name].spacing else ()
            values[side].append(float(METRICS[name].code()(image[None], *given)))
        if self._sets and index in self._kept[side]:
            for metrics in self._sets.values():
                names = [self.plan.groups[side][index]] if self._groups else [None]
                if "both" in metrics:
                    metrics["both"].note_groups(names)
                    metrics["both"].keep(**{"generated" if side == "fake" else "real": image[None]})
                else:
                    metrics[side].note_groups(names)
                    metrics[side].keep(image[None])

    def _collect_features(self, name: str, out: Path) -> dict[str, Any]:
        entry, results = METRICS[name], {}
        for (_, equalised), found in self._features.items():
            if equalised != entry.equalised:
                continue
            network = found["fake"].network
            metric = entry.make(features=_Precomputed(network))
            if self._groups:
                metric.note_groups(*self._groups)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what it warns of stands in its report, and in the notices
                metric(found["fake"].tensor(f"{network.label}, fake"), found["real"].tensor(f"{network.label}, real"))
                results[metric.label] = {"network": network.describe(), **result_of(metric, None)}
        return results

    def _collect_sets(self, name: str, out: Path) -> dict[str, Any]:
        metrics = self._sets[name]
        if "both" in metrics:
            return {getattr(metrics["both"], "label", name): result_of(metrics["both"], None)}
        return {name: result_of(metrics["fake"], None), f"{name}_real": result_of(metrics["real"], None)}

    def _collect_each(self, name: str, out: Path) -> dict[str, Any]:
        plan, seed = self.plan, self.options.seed
        values = {side: np.array(found) for side, found in self._values[name].items()}
        sides = values["fake"], values["real"]
        entries = {
            key: entry_of(values[side], seed=seed, clusters=self._clusters(side))
            for key, side in ((name, "fake"), (f"{name}_real", "real"))
        }
        ratio = {
            "value": float(values["fake"].mean() / values["real"].mean()) if values["real"].mean() else None,
            "interval95": ratio_interval(sides, self._groups, plan.paired, seed),
            "n": {"generated": len(values["fake"]), "real": len(values["real"])},
            "of": [name, f"{name}_real"],
        }
        return {**entries, f"{name}_ratio": ratio}

    def _collect_pairs(self, name: str, out: Path) -> dict[str, Any]:
        mine = {label: m for label, m in self._pairs.items() if label.split("[")[0] == name}
        seed, own = self.options.seed, self._clusters("real")
        return {label: result_of(m, per_case_values(m), seed, clusters=own) for label, m in mine.items()}

    def _collect_training(self, name: str, out: Path) -> dict[str, Any]:
        plan = self.plan
        if plan.train is None:
            raise ValueError("memorisation needs the training images.")
        shared = same_files(plan.real, plan.train)
        if shared:
            self.notices.append(
                f"{len(shared)} files of --real are in --train too, such as {shared[0]}; the audit needs others."
            )
        found = self._features.get((0, False))
        features = found and tuple(found[side].tensor(f"{side} features") for side in ("fake", "train", "real"))
        self.audit = run_audit(
            plan.fake,
            plan.train,
            plan.real,
            out,
            features=features,  # type: ignore[arg-type]
            groups=self._groups_of_audit(),
            settings=AuditSettings(seed=self.options.seed),
            context=self._context(),
        )
        return {name: audit_entry(self.audit)}

    def _groups_of_audit(self) -> tuple[list[str], list[str]] | None:
        """Of training and of held-out images, where no group is in both."""
        if not self.plan.groups:
            return None
        groups = self.plan.groups["train"], self.plan.groups["real"]
        both = groups_in_both(*groups)
        if both:
            self.notices.append(f"{len(both)} groups of --real are in --train too, such as {both[0]}.")
        return None if both else groups

    def _context(self) -> dict[str, Any]:
        plan = self.plan
        sides = {"real": plan.real, "fake": plan.fake, **({"train": plan.train} if plan.train else {})}
        return {
            **{side: folder_facts(folder) for side, folder in sides.items()},
            "reading": plan.real.describe(),
            "networks": [network.describe() for network in plan.networks],
            "paired": plan.paired,
            "seed": self.options.seed,
            **({"command": self.command} if self.command else {}),
        }

    def _clusters(self, side: str) -> np.ndarray | None:
        return np.array(self.plan.groups[side]) if self.plan.groups else None

    def _over(self) -> str:
        """What the bootstrap draws, in words."""
        if self._groups is None:
            return "images"
        fake, real = (len(set(names)) for names in self._groups)
        return f"{real} groups of real images and {fake} of generated ones"
