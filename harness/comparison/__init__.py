"""Two sides: what differs between them, and whether the new one is worse than the old.

names        how a metric, its variant and a group are written: accuracy(class 3)/noise
wording      amounts, intervals and p values as a person reads them
sides        a results folder, a leaderboard or a CSV, opened; `foreign`: CSVs of others
differences  two models' samples to a frame of differences; `sentences`: what is said of it
compare      two sides to such frames: the command `compare`
guards       a metric that must not get worse, and the verdict on it
planning     which margins a check can pass at, from the baseline alone
gate         a baseline and new results to verdicts: the command `check`
summaries    verdicts as JUnit XML and Markdown
"""
