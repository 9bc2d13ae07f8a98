"""Every suite, one line each."""

from suites import clean
from suites import robustness
