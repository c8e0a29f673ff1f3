"""The VM tests import their neighbours (kernel, image, run_vm) by plain names."""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
