"""Train trees of a small forest on samples of one data set, and count how often they agree.

    harness bench --executor dask --dask-workers 2 --ps-connector redis \
        --workload python --workflow examples/forest.py:main --stack scikit-learn

All trees read the same data: by a proxy it travels once, and by value with every call.
"""

import numpy as np

TREES = 8


def make_data(seed):
    """Return points and their classes."""
    from sklearn.datasets import make_classification

    x, y = make_classification(n_samples=20_000, n_features=40, random_state=seed)
    return x.astype(np.float32), y


def train(data, seed):
    """Return a tree that has seen a half of the data."""
    from sklearn.tree import DecisionTreeClassifier

    x, y = data
    chosen = np.random.default_rng(seed).integers(0, len(y), len(y) // 2)
    return DecisionTreeClassifier(max_depth=8, random_state=seed).fit(x[chosen], y[chosen])


def accuracy(data, *trees):
    """Return the share of points that most trees put into the right class."""
    x, y = data
    votes = np.mean([tree.predict(x) for tree in trees], axis=0)
    return float(np.mean((votes > 0.5) == y))


def main(client):
    """Make data, train all trees at once, let them vote."""
    data = client.submit(make_data, 0).result()
    trees = client.map(train, [data] * TREES, range(TREES))
    score = client.submit(accuracy, data, *trees).result()
    print(f"accuracy {float(client.value(score)):.3f}")
    for each in (data, *trees, score):
        client.evict(each)
