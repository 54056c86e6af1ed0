"""Ravine's networks as scikit-learn estimators: `NetworkClassifier` and `NetworkRegressor`."""

from ravine.sklearn.estimators import NetworkClassifier as NetworkClassifier
from ravine.sklearn.estimators import NetworkRegressor as NetworkRegressor
