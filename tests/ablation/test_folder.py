"""The folder of an ablation: it keeps the settings, which may grow but not change."""

import dataclasses

import pytest
from ablation.runs_made import BASE, settings

from effnetv2_jax.ablation.folder import AblationFolder


def test_an_ablation_may_get_more_tables_and_seeds(tmp_path):
    folder = AblationFolder(str(tmp_path / "made"))
    folder.begin(settings(tables=("parts", "presets"), seeds=2))
    grown = folder.begin(settings(tables=("progressive",), seeds=1))
    assert (grown.tables, grown.seeds) == (("progressive", "presets", "parts"), 2)
    assert folder.settings() == grown


def test_other_settings_are_refused_and_named(tmp_path):
    folder = AblationFolder(str(tmp_path))
    made = settings()
    folder.begin(made)
    other = dataclasses.replace(made, config={**made.config, "seed": 5})
    with pytest.raises(ValueError, match="contains an ablation with another config: use another folder"):
        folder.begin(other)
    assert folder.settings() == made


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tables": ("parts", "partz")}, "unknown table 'partz'; did you mean parts?"),
        ({"tables": ()}, "at least one of the tables networks, progressive"),
        ({"seeds": 0}, "seeds must be at least 1, got 0"),
        ({"seeds": 1.5}, "seeds must be int, got 1.5"),
        ({"base": "efficientnet-b9"}, "efficientnet-b9"),
        ({"config": [1]}, "config must be an object"),
        ({"networks": (BASE,)}, "networks must be at least two with different names"),
        ({"networks": (BASE, BASE)}, "networks must be at least two with different names"),
    ],
)
def test_damaged_settings_are_named(tmp_path, change, message):
    folder = AblationFolder(str(tmp_path))
    folder._write(dataclasses.replace(settings(), **change))
    with pytest.raises(ValueError, match=r"ablation\.json is damaged") as caught:
        folder.settings()
    assert message in str(caught.value)


def test_a_folder_without_an_ablation_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="contains no ablation"):
        AblationFolder(str(tmp_path)).settings()
