"""The report's words, for readers who are no statisticians."""

from deploy.measure.metrics import DESCRIBED, METRICS, SMALLEST_ARM

TERMS = {
    "Treatment and control": "Before the campaign a part of the audience was drawn by lot and held "
    "out: the control arm, which got nothing. The others are the treatment arm. What the control "
    "arm did is what would have happened without the campaign.",
    "Everyone counts": "Each customer of the audience counts in the arm that was drawn, whether "
    "they bought, looked, or were given a full list (intention to treat). Leaving anyone out "
    "afterwards would compare different kinds of people.",
    "Between … and …": "The 95 % interval. If such tests were repeated, 95 of 100 intervals "
    "would hold the true effect. Where it holds 0, the difference may be chance.",
    "No effect seen": "The interval holds 0. That does not show that there is none: effects "
    "smaller than “could have seen” pass unnoticed.",
    "Could have seen": "The smallest true effect that such a test finds in 80 of 100 cases.",
    "Adjusted for the time before": "What customers bought before the campaign says much about "
    "what they buy now. Taking that part out (CUPED, Deng et al. 2013) makes intervals narrower "
    "and adds no bias. Sales, orders and items per customer are adjusted, their averages too.",
    "Groups of customers": "With many groups, one of them shows an effect by luck. Their verdicts "
    "are therefore corrected for their number (Holm 1979): a group's interval may leave 0 out "
    "while the verdict is still “no effect seen”. The number for all customers decides.",
    "Several metrics": "Sales per customer decides, and only it. The others say how an effect "
    "came about: without any effect, one of them still leaves 0 out in up to three of ten reports.",
    "Activity": "The audience in quarters by how much they had bought before the campaign: new, "
    "occasional, regular, heavy.",
    "Sample check": "Whether the arms have the sizes that were drawn (χ² test). If customers are "
    "missing from one arm (p below 0.001), the arms differ in more than the campaign, and no "
    "number can be believed. Those who bought before the campaign are checked by themselves: if "
    "the purchases of one arm are not in the data, it shows there.",
    "Cannot be judged": "No effect is told: the sample check failed, nobody was held out, or an "
    f"arm has fewer than {SMALLEST_ARM} customers or, for sales, orders and items, fewer than "
    f"{SMALLEST_ARM} who ordered in the window.",
    "Guests": "Who buys without a customer id is in no arm and counts nowhere.",
}


def entries() -> dict[str, str]:
    """Return term → meaning: the metrics, then the statistics."""
    metrics = {metric.title: metric.meaning for metric in METRICS}
    described = {title: f"{meaning} No effect: the control arm has no list."
                 for title, meaning, _ in DESCRIBED.values()}  # fmt: skip
    return metrics | described | TERMS
