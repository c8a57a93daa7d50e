"""The group `augment`: what its choices change of what a data set says."""

from __future__ import annotations

import pytest

from runner import config as cfg
from runner.errors import ConfigError

FOUR = ["data=synthetic", "data.channels=4", "data.mean=[0,0,0,0]", "data.std=[1,1,1,1]"]


def test_sets_have_the_changes_that_suit_them(config_of):
    assert config_of("data=digits").augment == cfg.Augment(crop_padding=3)
    assert config_of("data=cifar10").augment == cfg.Augment(crop_padding=4, flip=True)
    assert config_of("data=image_folder", "data.root=x").augment == cfg.Augment(flip=True)
    assert config_of("data=synthetic").augment == cfg.Augment()


def test_a_choice_leaves_mirrors_to_the_set(config_of):
    # Mirrored digits would be others.
    for choice in ("light", "photos", "trivial", "rand"):
        assert not config_of("data=digits", f"augment={choice}").augment.flip
        assert config_of("data=cifar10", f"augment={choice}").augment.flip


def test_choices_can_be_put_together(config_of):
    both = config_of("data=image_folder", "data.root=x", "augment=[photos,trivial]").augment
    assert both == cfg.Augment(flip=True, crop_scale=[0.08, 1.0], policy=cfg.Policy.trivial)


@pytest.mark.parametrize("recipe", [[], ["experiment=cifar/cifar10_resnet18"]])
def test_none_is_nothing_whatever_the_set_and_the_recipe_say(config_of, recipe):
    assert not config_of(*recipe, "data=cifar10", "augment=none").augment.enabled


def test_keys_win_over_the_choice(config_of):
    assert config_of("augment=photos", "augment.crop_scale=[0.5,1]").augment.crop_scale == [0.5, 1.0]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["augment=custom"], "augment.target"),
        (["augment.crop_scale=[0.5]"], "augment.crop_scale=.* needs the smallest and the largest value"),
        (["augment.zoom=[1.2,0.8]"], "augment.zoom="),
        (["augment.crop_scale=[0,1]"], "must be above 0"),
        (["augment.hue=0.6"], "augment.hue=0.6: must be at most 0.5"),
        (["augment.fill=[1,2]"], "one number, or one for each"),
        (["augment.rand_m=31"], "at most 30"),
        ([*FOUR, "augment.hue=0.1"], r"Use augment\.hue=0"),
        ([*FOUR, "augment=trivial"], r"Use augment\.policy=none"),
        (["augment.mixup=0.2", "augment.mix_off_epochs=5", "train.epochs=5"], "no image would ever be mixed"),
        (["augment.mixup=0.2", "augment.mix_off_epochs=5", "train.max_minutes=5"], "train.max_minutes"),
        (["augment.cutmix=1", "augment.mix_last_probability=0", "train.max_minutes=5"], "mix_last_probability=null"),
        (["augment.cutmix=1", "augment.mix_last_probability=1.5"], "must be at most 1"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_by_name(config_of, overrides, message):
    with pytest.raises(ConfigError, match=message):
        config_of(*overrides)


def test_what_is_off_is_not_looked_at(config_of):
    off = config_of("augment=none", "augment.mixup=0.2", "augment.mix_off_epochs=99", "augment.cutout=999").augment
    assert not off.enabled
    assert config_of("augment.mix_off_epochs=99", "train.epochs=5").augment.mix_off_epochs == 99
