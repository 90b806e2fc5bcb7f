"""What plans say of themselves, and their way to a file and back."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from vrtool.dataset.augmentation import AugmentationConfig
from vrtool.dataset.cache import Cache
from vrtool.dataset.drawer import CropSchedule, PlanDrawer
from vrtool.dataset.plan import ExamplePlan, Layer
from vrtool.dataset.pools import make_pools
from vrtool.dataset.track import Role
from vrtool.errors import InputError

CROPS = CropSchedule(num_frames=40)


def drawn_plans(cache: Cache, number: int) -> list[ExamplePlan]:
    config = AugmentationConfig(
        instrumental_equaliser_probability=0.5,
        pair_rebalance_probability=0.5,
        vocals_doubling_probability=0.5,
        vocals_reverberation_probability=0.5,
    )
    drawer = PlanDrawer(config=config, pools=make_pools(cache.tracks, {}), crops=CROPS)
    return [drawer.draw(0, index) for index in range(number)]


def test_plans_survive_a_file_to_the_last_bit(small_cache: Cache) -> None:
    plans = drawn_plans(small_cache, 100)
    assert any(plan.mixup for plan in plans), "with partners, else the test says little"
    assert any(layer.equaliser_db for plan in plans for layer in plan.layers), "and with equalisers"
    assert any(len(plan.layers) > AugmentationConfig().max_vocal_layers + 1 for plan in plans), "and with reflections"
    for plan in plans:
        text = json.dumps(plan.to_json(), allow_nan=False)
        read = ExamplePlan.from_json(json.loads(text), origin="file")
        # The latter tells -0.0 from 0.0.
        assert (read, repr(read)) == (plan, repr(plan))


def change(path: tuple[str | int, ...], value: object) -> Callable[[Any], None]:
    def apply(values: Any) -> None:
        for step in path[:-1]:
            values = values[step]
        values[path[-1]] = value

    return apply


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (change(("num_frames",), 0), "num_frames 0"),
        (change(("num_frames",), True), "num_frames True"),
        (change(("mixup_weight",), float("nan")), "mixup_weight nan"),
        (change(("mixup_weight",), "1"), "mixup_weight '1'"),
        (change(("colour",), 1), "unknown or missing colour"),
        (change(("layers",), []), "no layer but of mixtures"),
        (change(("layers",), {}), "layers {}"),
        (change(("layers", 0), 7), "7"),
        (change(("layers", 0, "role"), "drums"), "role 'drums'"),
        (change(("layers", 0, "offset_frames"), -1), "offset_frames -1"),
        (change(("layers", 0, "offset_frames"), 1.0), "offset_frames 1.0"),
        (change(("layers", 0, "position_frames"), 30), "a layer that ends after the example"),
        (change(("layers", 0, "channels"), [0]), r"channels \[0\]"),
        (change(("layers", 0, "mixture_gains"), [1.0, None]), "mixture_gains None"),
        (change(("layers", 0, "equaliser_db"), [1.0]), r"equaliser_db \[1.0\]"),
    ],
)
def test_what_is_no_plan_is_told(small_cache: Cache, spoil: Callable[[Any], None], found: str) -> None:
    plan = next(plan for plan in drawn_plans(small_cache, 100) if plan.layers[0].num_frames == 40)
    values = json.loads(json.dumps(plan.to_json()))
    spoil(values)
    with pytest.raises(InputError, match=rf"^bad\.json: expected the plan of an example, found .*\(.*{found}"):
        ExamplePlan.from_json(values, origin="bad.json")


def test_a_partner_has_no_partner_and_as_many_frames(small_cache: Cache) -> None:
    plan = next(plan for plan in drawn_plans(small_cache, 100) if plan.mixup)
    nested = plan.to_json() | {"mixup": plan.to_json()}
    longer = plan.to_json()
    longer["mixup"]["num_frames"] += 1
    for values in (nested, longer):
        with pytest.raises(InputError, match="its mixup is no single example of as many frames"):
            ExamplePlan.from_json(values, origin="bad.json")


class TestPeak:
    def layer(self, role: Role, peak: float, mixture: tuple[float, float], instrumental: tuple[float, float]) -> Layer:
        return Layer(
            track="x", role=role, peak=peak, offset_frames=0, num_frames=1, position_frames=0, channels=(0, 1),
            mixture_gains=mixture, instrumental_gains=instrumental,
        )  # fmt: skip

    def test_it_is_the_largest_of_peaks_times_gains_in_either_channel(self) -> None:
        music = self.layer("instrumental", 10.0, (1.0, 1.0), (1.0, 1.0))
        for gains, expected in (((0.5, 0.5), 10.0), ((-4.0, 0.1), 20.0), ((0.0, 3.0), 15.0)):
            voice = self.layer("vocals", 5.0, gains, (0.0, 0.0))
            assert ExamplePlan(num_frames=1, layers=(music, voice)).peak == expected

    def test_a_mixtures_own_peak_does_not_count(self) -> None:
        mixture = self.layer("mixture", 99.0, (1.0, 1.0), (0.0, 0.0))
        instrumental = self.layer("instrumental", 10.0, (0.0, 0.0), (1.0, 1.0))
        assert ExamplePlan(num_frames=1, layers=(mixture, instrumental)).peak == 10.0
