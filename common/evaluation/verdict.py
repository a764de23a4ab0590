"""What a comparison says, in sentences that need no knowledge of the metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_FEW = 30  # images of a set, below which little can be said


def sentences(content: Mapping[str, Any]) -> list[str]:
    """
    The findings of a comparison in words, each with the metric that it rests on; copies of training images apart.

    A difference is called one only where the metric's interval of 95 % says so.

    Args:
        content: of metrics.json.

    Example:
        >>> entry = {"metric": "kid", "value": 0.2, "interval95": [0.1, 0.3]}
        >>> sides = {"real": {"n": 50}, "fake": {"n": 50}}
        >>> sentences({"metrics": {"kid[a]": entry}, "context": sides})
        ['As a set, the generated images differ from the real ones (kid[a] 0.2, and its interval leaves out 0).']
    """
    metrics = {label: entry for label, entry in content["metrics"].items() if entry.get("value") is not None}
    found = [text for label, entry in metrics.items() if (text := _of_entry(label, entry))]
    found += _diversity(metrics)
    least = min(content["context"][side]["n"] for side in ("real", "fake"))
    if least < _FEW:
        found.append(
            f"The smaller set has only {least} images: read the intervals, and expect other values from others."
        )
    return found or ["These metrics give no verdict by themselves: compare them with those of another method."]


def _of_entry(label: str, entry: Mapping[str, Any]) -> str:
    value, known = entry["value"], bool(entry.get("interval95"))
    low, high = entry["interval95"] if known else (0.0, 0.0)
    metric = entry.get("metric", "")
    if metric == "kid" and known:
        if low > 0:
            return (
                f"As a set, the generated images differ from the real ones ({label} {value:.3g}, and its interval "
                "leaves out 0)."
            )
        return f"So many images show no difference between the two sets ({label}: its interval holds 0)."
    if metric in ("machine_2afc", "machine_2afc_paired"):
        sure = known and low > 0.5
        how = "better than by chance" if sure else "not surely better than by chance"
        return f"A program picks the generated image of two in {100 * value:.0f} % of trials, {how} ({label})."
    if metric == "precision":
        return f"{100 * value:.0f} % of the generated images look like some real one ({label}: fidelity)."
    if metric in ("recall", "coverage"):
        return f"{100 * value:.0f} % of the real images have a generated one near them ({label}: diversity)."
    if label in ("acutance_ratio", "grain_ratio") and known:
        what = "sharpness" if label.startswith("acutance") else "change from pixel to pixel"
        if low > 1 or high < 1:
            side, share = ("more", value - 1) if value > 1 else ("less", 1 - value)
            return f"Generated images have {100 * share:.0f} % {side} {what} than real ones ({label})."
        return f"Generated images have about the {what} of real ones ({label}: its interval holds 1)."
    return ""


def _diversity(metrics: Mapping[str, Any]) -> list[str]:
    """Whether the generated images are more alike than the real ones."""
    own, real = (metrics.get(name) for name in ("ms_ssim", "ms_ssim_real"))
    if not own or not real or not own.get("interval95") or not real.get("interval95"):
        return []
    rest = f"(ms_ssim {own['value']:.3g} against {real['value']:.3g})"
    if own["interval95"][0] > real["interval95"][1]:
        return [f"Generated images are more alike among themselves than real ones {rest}: less variety."]
    if own["interval95"][1] < real["interval95"][0]:
        return [f"Generated images differ more among themselves than real ones {rest}."]
    return [f"Generated images are as varied as real ones {rest}."]
