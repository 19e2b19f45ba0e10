"""The trials agent, offline: figures against textbooks and independent computations, and wrong input."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from scipy.stats import multivariate_normal, nct, norm, t

from graphs.kit.datafolder import EXAMPLES
from graphs.trials.analysis import boundaries
from graphs.trials.design import size_design
from graphs.trials.graph import graph
from graphs.trials.state import Design

pytestmark = pytest.mark.usefixtures("no_blocking")

MEANS = {"kind": "two_means", "difference": 5, "sd": 10}
PROPORTIONS = {"kind": "two_proportions", "control": 0.2, "treatment": 0.35}
LOOK = {"information_fraction": 0.5, "z": 2.1}
EXAMPLE = json.loads((EXAMPLES / "trials.json").read_text())


async def ask(text: str = "Work on this", **keys: Any) -> dict[str, Any]:
    answer: dict[str, Any] = await graph.ainvoke({"messages": [{"role": "user", "content": text}], **keys})
    return answer


async def test_the_shipped_example_works_on_all_three_sections() -> None:
    answer = await graph.ainvoke(EXAMPLE)
    assert answer["problem"] is None
    result = answer["result"]
    # R: power.prop.test(p1 = .5, p2 = .75, power = .9) gives n = 76.7.
    assert result["design"]["per_group"] == 77
    assert result["design"]["enrol"] == 172
    # The 6-MP remission times of Freireich et al. (1963): log-rank 16.79, medians 8 and 23 weeks.
    assert result["survival"]["logrank"]["chi_square"] == pytest.approx(16.79, abs=0.005)
    assert [group["median"] for group in result["survival"]["groups"]] == [8, 23]
    at_10_weeks = [point for point in result["survival"]["groups"][1]["curve"] if point["time"] == 10]
    assert at_10_weeks[0]["survival"] == pytest.approx(0.753, abs=0.0005)
    assert result["interim"]["decision"] == "go_on"
    for section in result.values():
        assert len(section["assumptions"]) >= 3
        assert section["assumptions"][0] in answer["messages"][-1].text
    json.dumps(result, allow_nan=False)


async def test_two_means_by_the_textbook() -> None:
    # Cohen (1988): d = 0.5 at alpha 0.05 (two-sided) and power 0.8 needs 64 a group.
    design = (await ask(design={**MEANS, "per_group": 50, "dropout": 0.1}))["result"]["design"]
    assert design["per_group"] == 64
    assert design["power"] == pytest.approx(0.8015, abs=0.0001)
    assert design["enrol"] == 143
    assert design["given_power"] == pytest.approx(0.6969, abs=0.0001)
    assert size_design(Design.model_validate({**MEANS, "difference": -500}))["total"] == 4


def test_a_strict_alpha_by_the_noncentral_t() -> None:
    size = size_design(Design.model_validate({**MEANS, "alpha": 1e-6}))["per_group"]

    def power(n: int) -> float:
        return float(nct.sf(t.isf(0.5e-6, 2 * n - 2), 2 * n - 2, 0.5 * math.sqrt(n / 2)))

    assert power(size - 1) < 0.8 <= power(size)


async def test_the_question_chooses_the_section_and_the_power() -> None:
    first = await ask("And with 90% power?", design=MEANS, interim=LOOK)
    assert set(first["result"]) == {"design"}
    assert first["result"]["design"]["per_group"] == 86
    assert "power 0.9" in first["result"]["design"]["assumptions"][0]
    messages = [*first["messages"], {"role": "user", "content": "May we stop, and do the groups differ?"}]
    second = await graph.ainvoke({**first, "messages": messages})
    assert set(second["result"]) == {"interim"}
    assert "Nothing was sent under 'survival'" in second["messages"][-1].text


async def test_what_was_sent_is_worked_on_when_the_question_is_about_something_else() -> None:
    answer = await ask("Is the sample large enough?", interim=LOOK)
    assert set(answer["result"]) == {"interim"}
    assert "Nothing was sent" not in answer["messages"][-1].text


def test_a_simulated_trial_has_the_power_that_is_stated() -> None:
    value = size_design(Design.model_validate(PROPORTIONS))
    size = value["per_group"]
    random = np.random.default_rng(7)
    p1, p2 = (random.binomial(size, rate, 40_000) / size for rate in (0.2, 0.35))
    pooled = (p1 + p2) / 2
    z = (p2 - p1) / np.sqrt(pooled * (1 - pooled) * 2 / size)
    assert float(np.mean(np.abs(z) > norm.isf(0.025))) == pytest.approx(value["power"], abs=0.015)


def test_boundaries_by_the_published_table_and_by_the_multivariate_normal() -> None:
    fifths = [0.2, 0.4, 0.6, 0.8, 1.0]
    # Five equal looks, two-sided 0.05 (Jennison and Turnbull; the R package ldbounds).
    obrien = boundaries(fifths, alpha=0.05, spending="obrien_fleming")
    assert obrien == pytest.approx([4.877, 3.357, 2.680, 2.290, 2.031], abs=0.001)
    pocock = boundaries(fifths, alpha=0.05, spending="pocock")
    assert pocock == pytest.approx([2.438, 2.427, 2.410, 2.397, 2.386], abs=0.001)

    uneven = [0.3, 0.45, 1.0]
    bounds = boundaries(uneven, alpha=0.05, spending="pocock")
    covariance = [[math.sqrt(min(s, t) / max(s, t)) for s in uneven] for t in uneven]
    stays_within = multivariate_normal(cov=covariance).cdf(np.array(bounds), lower_limit=-np.array(bounds))
    assert 1 - float(stays_within) == pytest.approx(0.05, abs=0.0002)


@pytest.mark.parametrize(
    ("look", "decision"),
    [
        ({**LOOK, "z": 2.97}, "stop_for_efficacy"),
        ({**LOOK, "z": 2.95}, "go_on"),
        ({**LOOK, "z": -2.97}, "stop_for_harm"),
        ({**LOOK, "z": 2.2, "spending": "pocock"}, "stop_for_efficacy"),
        ({"information_fraction": 1, "z": 1.965, "earlier_fractions": [0.5]}, "not_significant"),
    ],
)
async def test_interim_decisions(look: dict[str, Any], decision: str) -> None:
    assert (await ask(interim=look))["result"]["interim"]["decision"] == decision


async def test_conditional_power_by_simulation() -> None:
    interim = (await ask(interim=LOOK))["result"]["interim"]
    trend = 2.1 / math.sqrt(0.5)
    rest = np.random.default_rng(3).normal(trend * 0.5, math.sqrt(0.5), 200_000)
    reached = np.mean(2.1 * math.sqrt(0.5) + rest >= interim["final_boundary"])
    assert interim["conditional_power"]["trend"] == pytest.approx(float(reached), abs=0.003)


def survival(**changes: Any) -> dict[str, Any]:
    data = {"times": [1, 2, 3, 4], "events": [1, 1, 1, 0], "groups": ["a", "b", "a", "b"]}
    return {"survival": {**data, **changes}}


@pytest.mark.parametrize(
    ("keys", "code", "says"),
    [
        ({}, "missing_input", "design"),
        ({"design": {**MEANS, "per_group": -5}}, "invalid_design", "per_group"),
        ({"design": {**MEANS, "alpha": 1}}, "invalid_design", "alpha"),
        ({"design": {**MEANS, "power": 0.05}}, "invalid_design", "not above alpha"),
        ({"design": {**MEANS, "difference": 0}}, "sample_too_large", "effect of 0"),
        ({"design": {**MEANS, "control": 0.3}}, "invalid_design", "control"),
        ({"design": {"kind": "two_means", "difference": 1}}, "invalid_design", "sd"),
        ({"design": "64 patients"}, "invalid_design", "design"),
        (survival(groups=["a"] * 4), "invalid_survival", "2 to 8 groups, not 1"),
        (survival(times=[-1, 2, 3, 4]), "invalid_survival", "times.0"),
        (survival(events=[1, 1, 1]), "invalid_survival", "differ in length"),
        (survival(events=[0, 0, 0, 0]), "invalid_survival", "no subject"),
        (survival(groups=["a", "a", "b", "b"], events=[0, 0, 1, 1]), "groups_not_comparable", "at risk"),
        ({"interim": {**LOOK, "information_fraction": 1.5}}, "invalid_interim", "information_fraction"),
        ({"interim": {**LOOK, "earlier_fractions": [0.3, 0.2]}}, "invalid_interim", "increase"),
        ({"interim": {**LOOK, "z": math.nan}}, "invalid_interim", "z"),
        ({"design": MEANS, "text": "x" * 1_000_000}, "prompt_too_long", "1,000,000"),
    ],
)
async def test_wrong_input_is_a_problem(keys: dict[str, Any], code: str, says: str) -> None:
    answer = await ask(**keys)
    assert answer["problem"]["code"] == code
    assert says in answer["problem"]["message"]
    assert answer["problem"]["message"] in answer["messages"][-1].text


async def test_a_group_without_events_has_no_median() -> None:
    group = (await ask(**survival(groups=["a", "a", "a", "b"])))["result"]["survival"]["groups"][1]
    assert (group["events"], group["median"]) == (0, None)
