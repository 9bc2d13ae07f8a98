"""The classifiers: ideas from differential equations, their baselines and their null models.

`catalog` lists them; a module is imported when one of its models is first used.
"""

if __name__ != "harness.models":  # imported from the root of a checkout
    from harness.models.aliases import alias

    alias(__name__, "harness.models")
