"""What the options of `evaluation_options` ask for: weights, data, and how its images are seen."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from effnetv2_jax.cli.options.config_file import UsageError, load_config, named_fields, with_overrides
from effnetv2_jax.cli.options.evaluation import IMAGES_PER_DEVICE
from effnetv2_jax.cli.terminal.progress_line import progress_line

if TYPE_CHECKING:
    from effnetv2_jax.evaluate.candidate import Candidate
    from effnetv2_jax.evaluate.images.evaluation_data import EvaluationData
    from effnetv2_jax.evaluate.images.view import ViewChoice
    from effnetv2_jax.evaluate.suite import Evaluation
    from effnetv2_jax.train.config import TrainConfig
    from effnetv2_jax.train.recipe.losses import Loss


@dataclasses.dataclass(frozen=True)
class Request:
    """What the options ask for.

    Attributes:
      candidates: the weights.
      data: the data sets.
      views: sizes, crops and so on.
      batch_size: images in a step, on all devices together.
      loss: the loss to report; None for minus the logarithm of the probability of an image's classes.
      only_data_classes: whether a network chooses only from the classes of the data.
    """

    candidates: Sequence[Candidate]
    data: Sequence[EvaluationData]
    views: ViewChoice
    batch_size: int
    loss: Loss | None
    only_data_classes: bool

    def evaluations(self) -> Iterator[Evaluation]:
        """Yields the evaluations, with a line that shows their progress."""
        from effnetv2_jax.evaluate.suite import evaluate_suite
        from effnetv2_jax.train.run.processes import is_first

        with progress_line() as show:

            def progress(text: str, done: int, total: int) -> None:
                if is_first() and (sys.stderr.isatty() or not done):
                    show(f"{text}: {done:,} of {total:,} images" if done else f"{text}: {total:,} images")

            for data in self.data:
                yield from evaluate_suite(
                    self.candidates,
                    data,
                    self.views,
                    batch_size=self.batch_size,
                    loss=self.loss,
                    only_data_classes=self.only_data_classes,
                    progress=progress,
                )


def requested(
    arguments: argparse.Namespace, checkpoints: Sequence[str], *, averaged: bool | None = None, data_needed: bool = True
) -> Request:
    """Returns what the options ask for, after reading the weights and opening the data.

    Args:
      arguments: the arguments of the command, with `config` and `framework`.
      checkpoints: the weights.
      averaged: whether to take the averaged or the raw weights of each; None for both, as far as they exist.
      data_needed: whether data must be named.

    Raises:
      UsageError: for options that contradict each other.
      ValueError: if weights or data are damaged or unknown.
      OSError: if they do not exist.
    """
    config = _config(arguments, data_needed=data_needed)
    views = _views(arguments, config)
    labels = _label_files(arguments)
    # Before the data is opened, which may take minutes.
    candidates = _candidates(arguments, checkpoints, config, averaged)

    import jax

    from effnetv2_jax.evaluate.images.evaluation_data import configured_data, named_data
    from effnetv2_jax.train.recipe.losses import make_loss
    from effnetv2_jax.train.run.processes import first_before_others, require_joined

    require_joined()
    if config is None:
        texts = arguments.data or []
        data = first_before_others(
            lambda: [named_data(text, arguments.data_dir, labels.get(text.partition("=")[0], "")) for text in texts]
        )
        default = IMAGES_PER_DEVICE * jax.device_count()
    else:
        data = first_before_others(lambda: [configured_data(config.data)])
        default = config.evaluation.batch_size or config.batch_size
    return Request(
        candidates,
        data,
        views,
        arguments.batch_size or default,
        make_loss(config.loss) if config else None,
        arguments.classes == "data",
    )


def _config(arguments: argparse.Namespace, *, data_needed: bool) -> TrainConfig | None:
    """Returns the config of `--config`, or else of the run folder; None if `--data` names the data, or nothing does."""
    if arguments.data:
        if arguments.config or arguments.overrides:
            raise UsageError("--data takes the place of --config and its fields: give one of them")
        return None
    for name in ("data_dir", "labels"):
        if getattr(arguments, name):
            raise UsageError(f"--{name.replace('_', '-')} goes with --data")
    if arguments.config:
        return load_config(arguments)
    if not getattr(arguments, "workdir", None):
        if not data_needed:
            return None
        raise UsageError("--data or --config must name the data to evaluate on")
    from effnetv2_jax.train.evaluation import run_config

    return with_overrides(run_config(arguments.workdir), arguments)


def _views(arguments: argparse.Namespace, config: TrainConfig | None) -> ViewChoice:
    from effnetv2_jax.evaluate.images.view import ViewChoice, parse_sizes

    try:
        sizes = parse_sizes(arguments.sizes) if arguments.sizes else ()
    except ValueError as error:
        raise UsageError(f"--sizes: {error}") from error
    crops, preprocessing = tuple(arguments.crop or ()), ""
    if config:
        named = named_fields(arguments)
        sizes = sizes or ((config.evaluation.image_size,) if config.evaluation.image_size else ())
        preprocessing = config.data.preprocessing if "data.preprocessing" in named else ""
        if not crops and "data.eval_crop" in named and config.data.eval_crop:
            crops = (config.data.eval_crop,)
    return ViewChoice(sizes, crops, preprocessing, arguments.flip)


def _label_files(arguments: argparse.Namespace) -> Mapping[str, str]:
    """Returns the name of the data, as `--data` gives it before a `=`, → its file of labels."""
    if not arguments.labels:
        return {}
    names = [text.partition("=")[0] for text in arguments.data]
    files: dict[str, str] = {}
    for text in arguments.labels:
        name, separator, file = text.partition("=")
        if not separator and len(names) == 1:
            name, file = names[0], text
        if name not in names:
            raise UsageError(f"--labels {text} must be DATA=FILE with one of {', '.join(names)}")
        files[name] = file
    return files


def _candidates(
    arguments: argparse.Namespace, checkpoints: Sequence[str], config: TrainConfig | None, averaged: bool | None
) -> Sequence[Candidate]:
    from effnetv2_jax.convert.provenance_overrides import override_provenance
    from effnetv2_jax.evaluate.candidate import load_candidates
    from effnetv2_jax.predict.labels import read_names

    variant: Any = arguments.variant or (config.model.spec() if config else None)
    dtype = config.model.dtype if config and getattr(arguments, "workdir", None) else "float32"
    candidates = load_candidates(
        checkpoints, framework=arguments.framework, variant=variant, averaged=averaged, dtype=dtype
    )
    if not arguments.class_names:
        return candidates
    names = read_names(arguments.class_names)
    return [
        dataclasses.replace(
            each,
            weights=dataclasses.replace(
                each.weights, provenance=override_provenance(each.provenance, class_names=names)
            ),
        )
        for each in candidates
    ]
