"""GPU and TPU kernels."""
