"""Every suite, one line each."""

from suites import attention
from suites import cifar10_c
from suites import clean
from suites import nfe
from suites import robustness
from suites import stability
