"""MLflow stores of the tests: all that they keep lies in one folder."""

from pathlib import Path

import mlflow


def keep_below(folder: Path, *names: str) -> None:
    """Make experiments whose artifacts lie in a folder, and open the first one.

    Args:
        folder: of the test.
        names: of the experiments; none: those of the flow.
    """
    names = names or ("recsys", "recommender-releases")
    for name in names:
        place = folder / "artifacts" / ("" if name == "recsys" else name)
        mlflow.create_experiment(name, artifact_location=place.as_uri())
    mlflow.set_experiment(names[0])
