"""When a run saves its state, and what it keeps."""

import dataclasses


@dataclasses.dataclass
class CheckpointConfig:
    """When the state is saved.

    Attributes:
      every_epochs: epochs between two checkpoints; 0 for none. One also precedes the first step and follows each
        evaluation and each stage.
      keep: number of latest checkpoints that are kept, besides the one with the best top-1.
      tries: how often a checkpoint that cannot be saved is tried before the run stops. Training goes on meanwhile.
    """

    every_epochs: float = 1.0
    keep: int = 3
    tries: int = 5
