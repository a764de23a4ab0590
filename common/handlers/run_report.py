"""What a run says of itself: one block as it starts, one bar over its images, and at the end what was written."""

from __future__ import annotations

import logging
import os
import shlex
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from monai.engines import Evaluator, Trainer

from ..bundle.errors import given_arguments, given_configs
from ..data.finder import ending_of
from ..data.survey import Survey
from ..utils.progress import ImagesBar

_SAID = (
    *("weights", "steps", "step_rule", "guidance_scale", "num_samples", "set_seed", "seed"),
    *("precision", "runtime", "batch_size", "learning_rate"),
)
_WORDS = {"step_rule": "by", "set_seed": "seed", "num_samples": "samples"}
_NAMED = 8  # files that the end names; of more it says how many

logger = logging.getLogger(__name__)


class RunReport:
    """
    Say at the start what a run does, and at the end what it wrote and what comes next; over an evaluator, show one bar.

    Args:
        output_dir: folder of the results.
        about: of the run, by name: the record of its images (see ``provenance``), or else; a value of None is left
            out.
        then: what a user does next: a sentence, or a command of a bundle, see ``bundle_command``.
        survey: of the data of a training, whose summary and notices are told; or None.
        noun: what a case is called.
        shown: whether to say anything; False in processes other than that of rank 0.

    Example:
        >>> evaluator = Engine(lambda engine, batch: None)
        >>> RunReport("no_such_folder", shown=False).attach(evaluator)
        >>> evaluator.run([1]).iteration
        1
    """

    def __init__(
        self,
        output_dir: str | Path,
        about: Mapping[str, Any] | None = None,
        then: str | None = None,
        survey: Survey | None = None,
        noun: str = "image",
        shown: bool = True,
    ) -> None:
        self.output_dir = Path(output_dir)
        self.about = dict(about or {})
        self.then = then
        self.survey = survey
        self.noun = noun
        self.shown = shown
        self._start = self._clock = 0.0
        self._bar: Any = None

    def attach(self, engine: Engine) -> None:
        """Report the run of ``engine``, a MONAI evaluator or trainer."""
        if not self.shown:
            return
        engine.add_event_handler(Events.STARTED, self.started)
        engine.add_event_handler(Events.COMPLETED, self.completed)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self.stopped)
        if isinstance(engine, Evaluator):
            engine.add_event_handler(Events.GET_BATCH_COMPLETED, lambda engine: self._bar.begin(_cases(engine)))
            engine.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: self._bar.end())

    def started(self, engine: Any) -> None:
        """Print the block."""
        self._start, self._clock = time.time(), time.monotonic()
        for line in self.block(engine):
            logger.info(line)
        if isinstance(engine, Evaluator):
            loader: Any = engine.data_loader
            self._bar = ImagesBar(len(loader.dataset), self.noun)

    def block(self, engine: Any) -> list[str]:
        """The lines of the block."""
        cases, state = len(engine.data_loader.dataset), engine.state
        about = {name: self.about[name] for name in _SAID if self.about.get(name) is not None}
        where = f"on {state.device}" + (f" in {about.pop('precision')}" if "precision" in about else "")
        kind = " for training" if isinstance(engine, Trainer) else ""
        lines = [f"{cases} {self.noun}{'s' * (cases != 1)}{kind}, {where}."]
        if self.survey is not None:
            lines += [self.survey.summary(), *self.survey.notices]
        if isinstance(engine, Trainer):
            about = {"epochs": state.max_epochs, "iterations_an_epoch": state.epoch_length, **about}
        if about:
            facts = (f"{_WORDS.get(name, name.replace('_', ' '))} {_short(value)}" for name, value in about.items())
            lines.append(f"With {', '.join(facts)}.")
        return [*lines, f"Results go to {self.output_dir}."]

    def completed(self, engine: Any) -> None:
        """Print what was written, and what comes next."""
        self.stopped()
        took = duration(time.monotonic() - self._clock)
        logger.info(f"Done in {took}. {written(self.output_dir, self._start)}")
        if self.then:
            logger.info(f"Next: {self.then}")

    def stopped(self, engine: Any = None, error: BaseException | None = None) -> None:
        """Leave the bar; an error goes on its way."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        if error is not None:
            raise error


def _short(value: Any) -> str:
    return Path(value).name if isinstance(value, str) and value.endswith(".pt") else str(value)


def written(folder: Path, since: float) -> str:
    """
    What files and folders in ``folder`` are newer than ``since``, in a sentence.

    Example:
        >>> written(Path("no_such_folder"), 0.0)
        'Nothing was written.'
    """
    there = [path for path in folder.glob("*") if not path.name.startswith(".")]
    newest = {path: max(one.stat().st_mtime for one in (path, *path.rglob("*"))) for path in there}
    found = sorted(path for path in there if newest[path] >= since - 1)  # some file systems round
    if not found:
        return "Nothing was written."
    names = [path.name + "/" * path.is_dir() for path in found]
    if len(names) > _NAMED:
        endings = Counter(ending_of(path) or path.suffix for path in found if path.is_file())
        first = next((path.name for path in found if ending_of(path)), names[0])
        folders = [name for name in names if name.endswith("/")]
        names = [f"{count} {ending}" for ending, count in endings.most_common()]
        names = [f"{len(folders)} folders", *names] if len(folders) > _NAMED else names + folders
        if not endings:
            return f"Wrote to {folder}: {len(folders)} folders, such as {folders[0]}."
        return f"Wrote to {folder}: {', '.join(names)} files, such as {first}."
    return f"Wrote to {folder}: {', '.join(names)}."


def bundle_command(
    bundle_root: str | Path, configs: Sequence[str], overlays: bool = False, repeat: bool = False, **arguments: Any
) -> str:
    """
    A command that runs configs of a bundle, as it is typed in the working folder.

    Args:
        bundle_root: folder of the bundle.
        configs: file names in its ``configs``, later ones over earlier ones.
        overlays: whether the other configs of the running command follow, such as strict.json.
        repeat: whether the other arguments of the running command stand before these.
        arguments: to give, by name, but for those that are None; a word in capitals stands for what the user has.

    Example:
        >>> print(bundle_command("bundles/b", ["train.json"], labels={"liver": 1}))
        python -m monai.bundle run --config_file bundles/b/configs/train.json --labels "{'liver': 1}"
    """
    paths = [os.path.abspath(Path(bundle_root, "configs", name)) for name in configs]
    paths += [path for path in map(os.path.abspath, given_configs() if overlays else ()) if path not in paths]
    files = [_near(path) for path in paths]
    given = files[0] if len(files) == 1 else '"[' + ",".join(f"'{file}'" for file in files) + ']"'
    every = {
        **(given_arguments() if repeat else {}),
        **{n: value for n, value in arguments.items() if value is not None},
    }
    values = [f"--{name} {_quoted(_near(value))}" for name, value in every.items()]
    return " ".join(["python -m monai.bundle run --config_file", given, *values])


def _near(value: Any) -> str:
    """A path as seen from the working folder, where it lies in it; anything else as it is."""
    near = os.path.relpath(value) if os.path.isabs(str(value)) else ""
    return str(value) if not near or near.startswith("..") else Path(near).as_posix()


def _quoted(text: str) -> str:
    """A word as a shell reads it; in double quotes where it holds single ones, as in {'liver': 1}."""
    return f'"{text}"' if "'" in text and not set('"$`\\!') & set(text) else shlex.quote(text)


def duration(seconds: float) -> str:
    """Words for a time, such as "2 h 05 min", "3 min 20 s" or "12 s"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def _cases(engine: Any) -> int:
    batch = engine.state.batch
    first = next(iter(batch.values())) if isinstance(batch, Mapping) and batch else batch
    return len(first) if hasattr(first, "__len__") else 1
