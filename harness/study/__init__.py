"""The four questions: what is asked, what is run for it, what the answer is."""
