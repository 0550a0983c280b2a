"""Claims of a paper, judged by statistics of the runs."""
