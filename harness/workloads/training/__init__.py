"""Training a network: one engine a back end, `tensorflow.py` first.

The variables that a back end reads while it is imported are set here, unless whoever started the process set them.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's own log goes to nobody
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
