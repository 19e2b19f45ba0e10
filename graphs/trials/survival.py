"""Kaplan-Meier curves of groups, and the log-rank test between them."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from scipy.stats import norm
from statsmodels.duration.survfunc import SurvfuncRight, survdiff

from graphs.kit.problems import InputProblem
from graphs.trials.state import Survival

MAX_CURVE_POINTS: Final = 200


def compare_survival(data: Survival) -> dict[str, Any]:
    """Estimate each group's survival and test whether the groups differ.

    Returns:
        `groups` (subjects, events, median with its confidence interval, curve), `logrank` (chi_square,
        degrees_of_freedom, p_value), `hazard_ratio` (two groups only) and `assumptions`. A median that was
        not reached is None.

    Raises:
        InputProblem: The groups were never at risk together when an event happened.
    """
    times = np.asarray(data.times, dtype=float)
    events = np.asarray(data.events, dtype=int)
    groups = np.asarray(data.groups)
    names = sorted(set(data.groups))
    try:
        chi_square, p_value = survdiff(times, events, groups)
    except np.linalg.LinAlgError:
        chi_square = p_value = math.nan
    if not math.isfinite(float(chi_square)):
        raise InputProblem(
            "groups_not_comparable",
            "No event happened while subjects of each group were at risk, so the groups cannot be compared.",
            "Send data whose follow-up overlaps, or leave out the group without any.",
        )
    value: dict[str, Any] = {
        "unit": data.unit,
        "groups": [_group(name, times[groups == name], events[groups == name], data.alpha) for name in names],
        "logrank": {
            "chi_square": float(chi_square),
            "degrees_of_freedom": len(names) - 1,
            "p_value": float(p_value),
            "alpha": data.alpha,
            "differ": bool(p_value < data.alpha),
        },
        "hazard_ratio": None,
        "assumptions": [
            "Censoring says nothing about a subject's risk (it is non-informative).",
            "Subjects are independent, and entered at time 0.",
            "The log-rank test is made for proportional hazards; crossing curves can hide a difference.",
            f"Its p-value is asymptotic: {int(events.sum())} events were seen in {len(times)} subjects.",
            "A median is the first time at which survival falls below one half.",
        ],
    }
    if len(names) == 2:
        value["hazard_ratio"] = _hazard_ratio(times, events, groups == names[1], names, data.alpha)
    return value


def _group(name: str, times: Any, events: Any, alpha: float) -> dict[str, Any]:
    median: float | None = None
    interval: list[float | None] = [None, None]
    curve = [{"time": 0.0, "survival": 1.0, "at_risk": len(times)}]
    if events.any():
        fit = SurvfuncRight(times, events)
        median = _finite(fit.quantile(0.5))
        with np.errstate(all="ignore"):  # its transform is undefined where survival is 0 or 1
            interval = [_finite(bound) for bound in fit.quantile_ci(0.5, alpha=alpha)]
        curve += [
            {"time": float(time), "survival": float(survival), "at_risk": int(at_risk)}
            for time, survival, at_risk in zip(fit.surv_times, fit.surv_prob, fit.n_risk, strict=True)
        ]
    return {
        "group": name,
        "subjects": len(times),
        "events": int(events.sum()),
        "median": median,
        "median_interval": interval,
        "curve": _thinned(curve),
    }


def _thinned(curve: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if len(curve) <= MAX_CURVE_POINTS:
        return curve
    places = np.linspace(0, len(curve) - 1, MAX_CURVE_POINTS).round().astype(int)
    return [curve[place] for place in places]


def _hazard_ratio(
    times: Any, events: Any, second: Any, names: list[str], alpha: float
) -> dict[str, Any] | None:
    """Peto's estimate of the second group's hazard over the first's: exp((O - E) / V)."""
    excess = variance = 0.0
    for time in np.unique(times[events == 1]):
        at_risk = times >= time
        dying = (times == time) & (events == 1)
        total, exposed, deaths = int(at_risk.sum()), int((at_risk & second).sum()), int(dying.sum())
        excess += int((dying & second).sum()) - deaths * exposed / total
        if total > 1:
            share = exposed / total
            variance += deaths * share * (1 - share) * (total - deaths) / (total - 1)
    if variance <= 0:
        return None
    log_ratio = excess / variance
    reach = float(norm.ppf(1 - alpha / 2)) / math.sqrt(variance)
    bounds = [log_ratio - reach, log_ratio + reach]
    return {
        "of": names[1],
        "over": names[0],
        "ratio": _finite(_exp(log_ratio)),
        "interval": [_finite(_exp(bound)) for bound in bounds],
        "method": "Peto",
    }


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf


def _finite(value: Any) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None
