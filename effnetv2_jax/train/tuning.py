"""What `effnetv2 tune` found: how each program of a run is compiled to be fast on one TPU."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from etils import epath

from effnetv2_jax.untrusted_json import parse_json
from effnetv2_jax.whole_file import write_whole

FORMAT = 1


class Work(NamedTuple):
    """What a program computes, apart from the network.

    Attributes:
      image_size: height and width of the images in pixels.
      images_per_device: images in a step on each device.
    """

    image_size: int
    images_per_device: int

    def __str__(self) -> str:
        return f"{self.images_per_device} images of {self.image_size} px on each device"


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a program is compiled.

    Attributes:
      microbatches: microbatches that a step processes one after another.
      remat: rows of blocks whose activations are computed again in the backward pass.
      compiler_options: XLA's options: name → value as text.
    """

    microbatches: int = 1
    remat: tuple[int, ...] = ()
    compiler_options: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def extras(self) -> tuple[str, ...]:
        """All settings but the number of microbatches, each in words."""
        rows = (f"rows {', '.join(map(str, self.remat))} computed again",) if self.remat else ()
        return (*rows, *(f"{name}={value}" for name, value in self.compiler_options.items()))

    def __str__(self) -> str:
        return ", ".join((f"{self.microbatches} microbatch{'es' if self.microbatches > 1 else ''}", *self.extras))


@dataclasses.dataclass(frozen=True)
class Tuning:
    """The settings of a run's programs on one kind of device.

    Attributes:
      device: the TPU's generation, such as v5e, or the platform of other devices.
      model: the fields of the configuration of the network that the work depends on.
      work: name of a program → what it computes.
      settings: name of a program → how it is compiled.
      made_with: package → its version when this was found.
      topology: the slice that they were found for.
      digests: name of a program → digest of the program that its settings were found for, as JAX lowered it.
    """

    device: str
    model: Mapping[str, Any]
    work: Mapping[str, Work]
    settings: Mapping[str, Settings]
    made_with: Mapping[str, str] = dataclasses.field(default_factory=dict)
    topology: str = ""
    digests: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def check(self, path: str, model: Mapping[str, Any], work: Mapping[str, Work]) -> None:
        """Checks that it was made for the programs of a run.

        Args:
          path: where it comes from.
          model: the fields of the run's configuration of the network that the work depends on.
          work: name of each of the run's programs → what it computes.

        Raises:
          ValueError: if it was made for others; the message names what differs.
        """
        for name, value in model.items():
            if self.model.get(name) != value:
                raise ValueError(
                    f"{path} was made for model.{name} {self.model.get(name)!r}, and the run has {value!r}"
                )
        for name, computed in work.items():
            if name not in self.settings:
                raise ValueError(f"{path} was made for {', '.join(self.settings)}, and the run has {name} too")
            if self.work[name] != computed:
                raise ValueError(f"{path} was made for {name} with {self.work[name]}, and the run has {computed}")

    def check_device(self, path: str, device: str) -> None:
        """Checks that it was made for the devices of a run.

        Raises:
          ValueError: if it was made for others.
        """
        if device != self.device:
            raise ValueError(f"{path} was made for {self.device}, and the run has {device}")


def read_tuning(path: str) -> Tuning:
    """Reads a file that `write_tuning` wrote.

    Raises:
      ValueError: if it is not such a file.
      FileNotFoundError: if there is none.
    """
    try:
        content = parse_json(epath.Path(path).read_bytes())
        if content["format"] != FORMAT:
            raise ValueError(f"its format is {content['format']!r}, and this version reads {FORMAT}")
        programs = {name: _program(values) for name, values in content["programs"].items()}
        tuning = Tuning(
            device=str(content["device"]),
            model=dict(content["model"]),
            work={name: work for name, (work, _) in programs.items()},
            settings={name: settings for name, (_, settings) in programs.items()},
            made_with=dict(content["made_with"]),
            topology=str(content["topology"]),
            digests={name: str(values["digest"]) for name, values in content["programs"].items()},
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else error
        raise ValueError(f"{path} is not a file of `effnetv2 tune`: {reason}") from None
    return tuning


def write_tuning(path: str, tuning: Tuning, notes: Mapping[str, Mapping[str, Any]]) -> None:
    """Writes a tuning as JSON, whole or not at all; `notes` are further values for each program, for people.

    Raises:
      OSError: if it cannot be written.
    """
    content = {
        "format": FORMAT,
        "device": tuning.device,
        "topology": tuning.topology,
        "made_with": dict(tuning.made_with),
        "model": {name: list(value) if isinstance(value, tuple) else value for name, value in tuning.model.items()},
        "programs": {
            name: {
                **tuning.work[name]._asdict(),
                "microbatches": settings.microbatches,
                "remat": list(settings.remat),
                "compiler_options": dict(settings.compiler_options),
                "digest": tuning.digests.get(name, ""),
                **notes.get(name, {}),
            }
            for name, settings in tuning.settings.items()
        },
    }
    write_whole(epath.Path(path), f"{json.dumps(content, indent=1)}\n".encode())


def _program(values: Any) -> tuple[Work, Settings]:
    options = values["compiler_options"]
    numbers = [values["image_size"], values["images_per_device"], values["microbatches"]]
    if not all(type(number) is int and number > 0 for number in numbers):
        raise ValueError(f"its sizes must be whole numbers above 0, got {numbers}")
    if not all(type(row) is int for row in values["remat"]):
        raise ValueError(f"remat must be numbers of rows, got {values['remat']!r}")
    if not all(isinstance(value, str) for value in options.values()):
        raise ValueError(f"the values of compiler_options must be text, got {options!r}")
    return Work(*numbers[:2]), Settings(numbers[2], tuple(values["remat"]), dict(options))
