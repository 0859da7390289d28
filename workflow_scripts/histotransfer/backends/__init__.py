"""TensorFlow, JAX, PyTorch and OpenVINO: the only folder that imports them."""
