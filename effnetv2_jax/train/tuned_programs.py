"""How the programs of a run are compiled: as a file of `effnetv2 tune` says, or as the project's own files do."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from effnetv2_jax.model.specs import ModelSpec
from effnetv2_jax.train.config import TrainConfig, flatten
from effnetv2_jax.train.microbatches import allowed_microbatches, possible_microbatches, with_the_same_groups
from effnetv2_jax.train.tuning import Settings, Tuning, Work, read_tuning

AUTO, NONE = "auto", "none"
"""Values of `tuning` besides a file: the project's own tunings, where they fit, and no tuning."""

EVALUATION = "evaluation"
"""The name of the evaluation step's program."""

FOLDER = Path(__file__).parent / "tunings"
"""The project's own tunings, one file for each recipe and TPU."""

# They change the numbers that a network computes, but not the work.
_NUMBERS_ONLY = ("bn_momentum", "bn_epsilon")


class TunedProgram(NamedTuple):
    """How one program of a run is compiled.

    Attributes:
      settings: the settings.
      choices: numbers of microbatches to try in turn: that of the settings, and larger ones if it does not fit.
      origin: the file that the settings come from, in words.
      topology: the slice that they were found for.
      digest: digest of the program that they were found for; "" if this is another one on purpose.
      jax: version of JAX that traced that program.
    """

    settings: Settings
    choices: tuple[int, ...] = (1,)
    origin: str = ""
    topology: str = ""
    digest: str = ""
    jax: str = ""


def tuned_fields(config: TrainConfig) -> dict[str, Any]:
    """Returns the fields of the network's configuration that a tuning depends on."""
    fields = {
        name.removeprefix("model."): value for name, value in flatten(config).items() if name.startswith("model.")
    }
    return {name: value for name, value in fields.items() if name != "remat" and name not in _NUMBERS_ONLY}


def tuned_programs(
    config: TrainConfig, spec: ModelSpec, work: Mapping[str, Work], devices: int, device: str
) -> dict[str, TunedProgram]:
    """Returns how the programs of a run are compiled: name → settings, without those that no tuning is known for.

    Args:
      config: the run.
      spec: its network.
      work: name of each of its programs → what it computes.
      devices: number of devices.
      device: name of the devices; "" for no tuning.

    Raises:
      ValueError: if the config names a file that is damaged or was made for another run.
      FileNotFoundError: if there is no such file.
    """
    if config.tuning == NONE or not device:
        return {}
    if config.tuning == AUTO:
        return dict(_own_tunings_that_fit(config, work, devices, device))
    tuning, path = read_tuning(config.tuning), config.tuning
    tuning.check(path, tuned_fields(config), work)
    tuning.check_device(path, device)
    possible = possible_microbatches(config, devices)
    for name in work:
        settings, counts = tuning.settings[name], possible if name != EVALUATION else (1,)
        if settings.microbatches not in counts or not set(settings.remat) <= set(range(len(spec.rows))):
            raise ValueError(f"{path} does not fit the run: {name} has {settings}")
    return {name: _tuned(tuning, name, tuning.settings[name], possible, path) for name in work}


@functools.cache
def own_tunings() -> Mapping[str, Tuning]:
    """Returns the project's own tunings: name of the file → tuning."""
    return MappingProxyType({path.name: read_tuning(str(path)) for path in sorted(FOLDER.glob("*.json"))})


def _own_tunings_that_fit(
    config: TrainConfig, work: Mapping[str, Work], devices: int, device: str
) -> Iterator[tuple[str, TunedProgram]]:
    """Yields the programs that one of the project's own tunings fits. One for the same batch goes first."""
    fields = tuned_fields(config)
    tunings = {
        name: tuning
        for name, tuning in own_tunings().items()
        if tuning.device == device and all(tuning.model.get(key) == value for key, value in fields.items())
    }
    if not tunings:
        return
    automatic = config.accumulation_steps == "auto"
    possible = possible_microbatches(config, devices) if automatic else allowed_microbatches(config, devices)
    same_groups = with_the_same_groups(config, possible) if automatic else possible
    for program, computed in work.items():
        counts = (1,) if program == EVALUATION else same_groups
        found = [
            (made_for != computed, file, tuning, name, settings)
            for file, tuning in tunings.items()
            for name, made_for in tuning.work.items()
            if (name == EVALUATION) == (program == EVALUATION)
            if (settings := _for_batch(tuning.settings[name], made_for, computed)) and settings.microbatches in counts
            if config.model.remat in ((), settings.remat) or program == EVALUATION
        ]
        if found:
            other_batch, file, tuning, name, settings = min(found, key=lambda each: each[:2])
            origin = f"the project's {file}"
            if other_batch:
                origin += f", made for {tuning.work[name].images_per_device} images on each device"
            tuned = _tuned(tuning, name, settings, possible, origin)
            yield program, tuned._replace(digest="") if other_batch else tuned


def _for_batch(settings: Settings, made_for: Work, computed: Work) -> Settings | None:
    """Returns the settings of a program with microbatches of the same images; None if the batch has no such ones."""
    images = made_for.images_per_device // settings.microbatches
    count, rest = divmod(computed.images_per_device, images)
    if made_for.image_size != computed.image_size or rest or not count:
        return None
    return Settings(count, settings.remat, settings.compiler_options)


def _tuned(tuning: Tuning, name: str, settings: Settings, possible: tuple[int, ...], origin: str) -> TunedProgram:
    choices = tuple(count for count in possible if count >= settings.microbatches) if name != EVALUATION else (1,)
    jax = tuning.made_with.get("jax", "")
    return TunedProgram(settings, choices, origin, tuning.topology, tuning.digests.get(name, ""), jax)
