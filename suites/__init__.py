"""What is evaluated, and on which data: suites, corruptions, data sets, metrics.

`catalog` names them; a module is imported when one of its names is first used.
"""
