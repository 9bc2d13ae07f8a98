"""Adversarial attacks: images in, images within eps of them out, every draw keyed per image."""

from harness.suites.attacks.contract import Attack, attack, unseen
from harness.suites.attacks.ensembles import ATTACKS, ENSEMBLES, Entry, Outcome, run_ensemble
