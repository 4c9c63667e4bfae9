"""Whether the arms have the sizes they were meant to have (Fabijan et al. 2019)."""

from dataclasses import dataclass

from scipy import stats

# So small that a sound test is hardly ever called broken, however often one looks.
BROKEN = 0.001


@dataclass(frozen=True)
class SampleRatio:
    """How the customers are shared out.

    Attributes:
        treatment: customers in the arm.
        control: likewise.
        control_share: share of control that was meant.
        chi_square: Σ (observed − expected)² / expected over both arms.
        p_value: of so large a deviation by chance.
    """

    treatment: int
    control: int
    control_share: float
    chi_square: float
    p_value: float

    @property
    def observed_share(self) -> float:
        """Share of control that is found."""
        return self.control / (self.treatment + self.control)

    @property
    def broken(self) -> bool:
        """Whether customers went missing, so that no effect of this test can be believed."""
        return self.p_value < BROKEN


def sample_ratio(treatment: int, control: int, control_share: float) -> SampleRatio:
    """Test the arms' sizes against the share that was meant (χ², one degree of freedom).

    Args:
        treatment: customers in the arm.
        control: likewise.
        control_share: share of control that was meant, between 0 and 1.

    Raises:
        ValueError: no customers, a number below 0, or a share that leaves an arm empty.
    """
    if min(treatment, control) < 0 or treatment + control == 0:
        raise ValueError("give the customers of both arms; there are none.")
    check_share(control_share)
    total = treatment + control
    expected = [total * (1 - control_share), total * control_share]
    found = stats.chisquare([treatment, control], expected)
    return SampleRatio(
        treatment, control, control_share, float(found.statistic), float(found.pvalue)
    )


def check_share(control_share: float) -> None:
    """Refuse a share that leaves an arm empty; raises ValueError."""
    if not 0 < control_share < 1:
        raise ValueError(f"control_share={control_share} must lie between 0 and 1.")
