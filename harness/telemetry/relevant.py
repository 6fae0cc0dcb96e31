"""Which packages and environment variables can change speed or results (standard library only: it is needed early)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

# If set, the GPUs of this node to keep to, joined by commas: numbers in the order of the bus, or beginnings of UUIDs.
GRANTED_GPUS: Final = "HARNESS_GPUS"

# Installed distributions whose version can; TensorFlow goes by several names.
PACKAGES: Final = (
    "harness", "tensorflow", "tensorflow-cpu", "tf-nightly", "keras", "jax", "jaxlib", "torch", "ray", "numpy", "scipy",
    "pandas", "pyarrow", "pydantic", "psutil", "nvidia-ml-py", "nvidia-cuda-runtime-cu12", "nvidia-cudnn-cu12",
    "nvidia-cublas-cu12", "nvidia-nccl-cu12",
)  # fmt: skip
_VARIABLES: Final = re.compile(
    r"(OMP|GOMP|KMP|MKL|OPENBLAS|BLIS|VECLIB|NUMEXPR|DNNL|ONEDNN|TF|XLA|JAX|KERAS|CUDA|CUDNN|CUBLAS|NCCL|NVIDIA|TORCH"
    r"|PYTORCH|ROCR|HIP|HSA|MIOPEN|MALLOC|TCMALLOC|RAY)_\w+|TORCHINDUCTOR_\w+|SLURM_CPU\w+|SLURM_GPU\w*|NPROC"
    r"|GLIBC_TUNABLES|LD_PRELOAD|LD_LIBRARY_PATH"
    r"|PYTHON(HASHSEED|DONTWRITEBYTECODE|OPTIMIZE|MALLOC|DEVMODE|NODEBUGRANGES|PYCACHEPREFIX|PROFILEIMPORTTIME)"
)
# Results are published, so whatever might be a secret stays out; TF_VAR_ and TF_CLI_ belong to Terraform.
_SECRETS: Final = re.compile(r"TF_VAR_|TF_CLI_|\w*(KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|AUTH)", re.IGNORECASE)


def variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables that can change speed or results, without any that may hold a secret."""
    return {
        name: value
        for name, value in sorted(environ.items())
        if _VARIABLES.fullmatch(name) and not _SECRETS.match(name)
    }
