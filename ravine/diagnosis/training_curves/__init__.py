"""The curves of a finished run, and the rules that read them.

Rules with statistical tests share one budget of false alarms. A run is checked at fractions of its
budget (`INTERIM_FRACTIONS`) and at its end. Each statistical test at each check may err with the
chance alpha / (tests · checks), so that any warning on a healthy run has a chance of at most
alpha = 5 %. Beside being sure, a difference must matter: it is compared with the fall, from the
loss of the best constant answer (or, where that is not known, from the first loss) to the lowest.
"""
