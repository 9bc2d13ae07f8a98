"""What is evaluated, and on which data: suites, corruptions, data sets, metrics.

`catalog` names them; a module is imported when one of its names is first used.
"""

if __name__ != "harness.suites":  # imported from the root of a checkout
    from harness.models.aliases import alias

    alias(__name__, "harness.suites")
