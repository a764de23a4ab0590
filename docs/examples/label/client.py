"""Ask a MONAI Label server for an image and store it with the record of its making; needs ``requests`` alone.

python client.py --model med_ddpm_3d --image mask.nii.gz --set seed=7 --set num_inference_steps=20 --out out
"""

from __future__ import annotations

import argparse
import email
import email.policy
import json
import sys
from pathlib import Path

import requests


def generate(
    server: str, model: str, image: Path, label: Path | None = None, **settings: object
) -> tuple[str, bytes, dict]:
    """
    Send an image to a bundle.

    Args:
        server: address of the server.
        model: name of the bundle.
        image: mask or image, as the bundle takes it.
        label: the hole of an image to be filled.
        settings: such as ``seed=7``.

    Returns:
        Ending of the result's file, its content, and its record.

    Raises:
        RuntimeError: with the server's message.
    """
    files = {"file": (image.name, image.read_bytes())}
    if label is not None:
        files["label"] = (label.name, label.read_bytes())
    address, data = f"{server}/infer/{model}?output=all", {"params": json.dumps(settings)}
    answer = requests.post(address, files=files, data=data, timeout=3600)
    if answer.status_code != 200:
        raise RuntimeError(f"{answer.status_code}: {answer.text}")
    head = f"Content-Type: {answer.headers['Content-Type']}\r\n\r\n".encode()
    parts = email.message_from_bytes(head + answer.content, policy=email.policy.HTTP).get_payload()
    found = {part.get_param("name", header="Content-Disposition"): part for part in parts}
    params = json.loads(found["params"].get_payload(decode=True))
    ending = "".join(Path(found["image"].get_filename()).suffixes)
    return ending, found["image"].get_payload(decode=True), params["record"]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", default="http://127.0.0.1:8000")
    parser.add_argument("--model", required=True)
    parser.add_argument("--image", required=True, type=Path)
    parser.add_argument("--label", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--out", default=Path("out"), type=Path)
    given = parser.parse_args()
    settings = dict(one.split("=", 1) for one in given.set)
    try:
        ending, content, record = generate(given.server, given.model, given.image, given.label, **settings)
    except (RuntimeError, OSError) as error:
        sys.exit(str(error))
    given.out.mkdir(parents=True, exist_ok=True)
    result = given.out / f"{given.image.name.split('.')[0]}_{given.model}{ending}"
    result.write_bytes(content)
    result.with_name(result.name.removesuffix(ending) + ".json").write_text(json.dumps(record, indent=4) + "\n")
    print(f"{result}: seed {record['seed']}, {record['steps']} steps, synthetic: {record['synthetic']}")


if __name__ == "__main__":
    main()
