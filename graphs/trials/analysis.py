"""What the data of a trial say: survival of its groups, and an interim look at its z."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from scipy.optimize import brentq
from scipy.stats import norm
from statsmodels.duration.survfunc import SurvfuncRight, survdiff

from graphs.kit.problems import InputProblem
from graphs.trials.state import Interim, Survival

FARTHEST_Z: Final = 10.0  # boundaries beyond this are cut here: no z that a trial can see reaches them


def compare_survival(data: Survival) -> dict[str, Any]:
    """Estimate each group's survival (Kaplan-Meier) and test whether the groups differ (log-rank).

    A median not reached is None; groups never at risk together when an event happened raise InputProblem.
    """
    times, events, groups = np.array(data.times), np.array(data.events), np.array(data.groups)
    try:
        chi_square, p_value = map(float, survdiff(times, events, groups))
    except np.linalg.LinAlgError:
        chi_square = p_value = math.nan
    if not math.isfinite(chi_square):
        message = "No event happened while subjects of each group were at risk, so they cannot be compared."
        raise InputProblem("groups_not_comparable", message, "Send data whose follow-up overlaps.")
    cases = {name: groups == name for name in sorted(set(data.groups))}
    curves = [_group(name, times[case], events[case]) for name, case in cases.items()]
    told = [
        f"{group['group']}: {group['events']} events in {group['subjects']} subjects, median "
        + ("not reached" if group["median"] is None else f"{group['median']:g} {data.unit}")
        for group in curves
    ]
    verdict = f"the groups {'differ' if p_value < data.alpha else 'do not differ'} at alpha {data.alpha:g}"
    return {
        "groups": curves,
        "logrank": {"chi_square": chi_square, "p_value": p_value},
        "summary": f"{'; '.join(told)}. Log-rank chi-square {chi_square:.2f}, p = {p_value:.2g}: {verdict}.",
        "assumptions": [
            "Censoring says nothing about a subject's risk; subjects are independent, and entered at time 0.",
            "The log-rank test is made for proportional hazards; crossing curves can hide a difference.",
            f"Its p-value is asymptotic: {int(events.sum())} events were seen in {len(times)} subjects.",
            "A median is the first time at which survival falls below one half.",
        ],
    }


def _group(name: str, times: Any, events: Any) -> dict[str, Any]:
    median: float | None = None
    curve = [(0.0, 1.0, len(times))]
    if events.any():  # without any, there is nothing to fit
        fit = SurvfuncRight(times, events)
        half = float(fit.quantile(0.5))
        median = half if math.isfinite(half) else None
        steps = [column.tolist() for column in (fit.surv_times, fit.surv_prob, fit.n_risk)]
        curve += list(zip(*steps, strict=True))[:: -(len(times) // 200 + 1)][::-1]  # thinned, last one kept
    points = [dict(zip(("time", "survival", "at_risk"), point, strict=True)) for point in curve]
    found = {"group": name, "subjects": len(times), "events": int(events.sum())}
    return found | {"median": median, "curve": points}


def judge_interim(data: Interim) -> dict[str, Any]:
    """Judge one look against its boundary: stop_for_efficacy, stop_for_harm, go_on, or not_significant.

    Conditional power is given under the trend so far and under the planned effect; None at the last look.
    """
    now, z = data.information_fraction, data.z
    looks = [*data.earlier_fractions, now, *([1.0] if now < 1 else [])]
    bounds = boundaries(looks, alpha=data.alpha, spending=data.spending)
    boundary, final = bounds[looks.index(now)], bounds[-1]
    decision = "go_on" if now < 1 else "not_significant"
    if z >= boundary:
        decision = "stop_for_efficacy"
    elif z <= -boundary:
        decision = "stop_for_harm"
    summary = f"At information fraction {now:g}, z = {z:g} against the boundary {boundary:.3f}: {decision}."
    powers: dict[str, float] | None = None
    if now < 1:
        planned = norm.isf(data.alpha / 2) + norm.ppf(data.power)
        drifts = {"trend": z / math.sqrt(now), "planned_effect": planned}  # of z at full information
        shortfalls = {name: final - z * math.sqrt(now) - drift * (1 - now) for name, drift in drifts.items()}
        powers = {name: float(norm.sf(gap / math.sqrt(1 - now))) for name, gap in shortfalls.items()}
        summary += (
            f" Conditional power is {powers['trend']:.3f} under the trend so far, "
            f"{powers['planned_effect']:.3f} under the planned effect; the final boundary is {final:.3f}."
        )
    return {
        "decision": decision,
        "boundary": boundary,
        "final_boundary": final,
        "conditional_power": powers,
        "summary": summary,
        "assumptions": [
            f"Alpha {data.alpha:g}, two-sided, by Lan-DeMets spending of {data.spending} type.",
            "No earlier look crossed its boundary, and one more follows, at full information.",
            "z is positive where the treatment does better, and near normal with independent increments.",
            f"The planned effect is the one that a trial without looks would show with power {data.power:g}.",
            "Conditional power is the probability that the last look shows benefit.",
        ],
    }


def boundaries(fractions: list[float], *, alpha: float, spending: str) -> list[float]:
    """Compute the upper z boundary of each look by Lan-DeMets alpha spending; the lower one mirrors it.

    The score process at information t, z·√t, is a Brownian motion under the null. Its density among trials
    that have not stopped is carried from look to look by numerical integration (Armitage, McPherson and
    Rowe), and each boundary is solved so that the look spends its part of alpha.
    """
    found: list[float] = []
    tail, spent, before = alpha / 2, 0.0, 0.0
    nodes: Any = np.zeros(1)
    mass: Any = np.ones(1)  # density times quadrature weight; all of it at 0 before the first look
    unit_nodes, unit_weights = np.polynomial.legendre.leggauss(400)
    for fraction in fractions:
        root, step = math.sqrt(fraction), math.sqrt(fraction - before)
        target = tail * math.log(1 + (math.e - 1) * fraction)  # of one tail's alpha, used by this look
        if spending == "obrien_fleming":
            target = float(2 * norm.sf(norm.isf(tail / 2) / root))

        def excess(z: float) -> float:
            crossed = mass @ norm.sf((z * root - nodes) / step)  # noqa: B023 - used at once
            return float(crossed) - (target - spent)  # noqa: B023

        reached = excess(FARTHEST_Z) < 0
        bound = float(brentq(excess, -FARTHEST_Z, FARTHEST_Z, xtol=1e-10)) if reached else FARTHEST_Z
        found.append(bound)
        new_nodes = bound * root * unit_nodes
        kernel = norm.pdf((new_nodes[:, None] - nodes[None, :]) / step) / step
        mass = (kernel @ mass) * unit_weights * bound * root
        nodes, spent, before = new_nodes, target, fraction
    return found
