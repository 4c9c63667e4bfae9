"""Which releases held a stage before, and may come back."""

from collections.abc import Sequence

from registry.ledger import PROMOTE, ROLLBACK, Generation


def earlier(history: Sequence[Generation]) -> list[Generation]:
    """Return the promotions below the one that holds a stage, the oldest first.

    Promotions pile up, and each rollback takes those away that came after what it restores: so a
    second rollback goes back further. A model that was only approved anew, or released again after
    its files were lost, stays one.

    Args:
        history: of the stage, the oldest generation first.
    """
    pile = list[Generation]()
    for generation in history:
        record = generation.record
        if record.action == PROMOTE:
            if pile and pile[-1].record.model_digest == record.model_digest:
                pile.pop()
            pile.append(generation)
        while record.action == ROLLBACK and pile and pile[-1].number != record.restores:
            pile.pop()
    return pile[:-1]
