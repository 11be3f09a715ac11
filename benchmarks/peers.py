"""The implementations that the benchmarks compare, each run by `with_<key>.py`."""

PEERS: dict[str, str] = {
    "digits": "this repository",
    "keras": "Keras `fit`",
    "pytorch": "PyTorch loop",
    "sklearn": "scikit-learn `MLPClassifier`",
    "jax": "JAX compiled `scan`",
    "numpy": "NumPy matrix products",
}
